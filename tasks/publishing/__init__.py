"""Publish an export to an object store or another folder, and fetch it back, by means of a manifest."""
