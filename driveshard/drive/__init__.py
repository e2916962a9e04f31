"""Google Drive: the only rooms that know HTTP, status codes and Google's libraries."""
