"""Bounded readers and writers of general formats: tables, spreadsheets and JSON documents."""
