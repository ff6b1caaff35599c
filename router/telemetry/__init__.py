"""What is counted, logged and traced about requests; nothing here ever delays one."""
