"""Results for people: tables for the terminal and a self-contained HTML page."""
