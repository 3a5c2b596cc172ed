{{/* The operator's rights. tests/charts holds them against a table, the end-to-end tests against
the calls that the API server saw. */}}
{{- define "sagepool.operatorRules" -}}
# Its own kinds. The operator holds every right that it grants to a router: the API server lets
# nobody hand out more than they have.
- apiGroups: [sagepool.dev]
  resources: [inferencepools]
  verbs: [get, list, watch]
- apiGroups: [sagepool.dev]
  resources: [inferenceinstances]
  verbs: [get, list, watch, create, patch]
- apiGroups: [sagepool.dev]
  resources: [inferencepools/status, inferenceinstances/status]
  verbs: [patch]
# What a pool is made of. Server-side apply needs create and patch; only what belongs to a group
# is ever deleted by the operator, the rest goes with its pool.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Claims outlive their pools: the operator deletes none.
- apiGroups: [""]
  resources: [services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Engine pods belong to their Deployments: the operator only looks, and says in their status when
# routers send to them.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
