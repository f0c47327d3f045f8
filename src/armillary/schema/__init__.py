"""The database: migrations, in order of their date and time, and the whole schema that they amount to."""
