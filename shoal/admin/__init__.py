"""What the admin APIs of router and autoscaler share: keys, error shape, server."""
