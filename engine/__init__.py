"""The worker: scheduler core, model runner and OpenAI server. Importing it pulls in no torch."""
