"""From candidate to approved model version: gate, approval, registry, audit log."""
