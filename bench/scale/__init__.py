"""What the router costs when there is much of something: streams, instances, bytes, patience."""
