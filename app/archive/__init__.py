"""Conversations as files, for their visitor to take along: Markdown to read, JSON to bring back, a zip of all."""
