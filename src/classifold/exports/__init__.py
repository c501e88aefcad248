"""The model in other formats, each measured on the evaluation pictures before it is handed out."""
