"""Worker processes on this machine as a scaling target: started, registered, drained, restarted."""
