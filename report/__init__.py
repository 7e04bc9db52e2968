"""What people see of runs and caches: tables, pages, pictures, progress."""
