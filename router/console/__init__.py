"""The web console: pages, the data they show, and a chat box. Part of the admin app."""
