"""The demo: from an empty machine to answers, in the cluster, with what happened on the screen.

Two halves that share `events`: `story` runs on the developer's machine, `client` in a pod.
"""
