"""Text formats that are not ours alone: tables, spreadsheets and JSON documents, read in bounded memory."""
