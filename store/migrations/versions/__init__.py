"""One file a schema version, named after it; `store.migrate.HEAD` names the newest."""
