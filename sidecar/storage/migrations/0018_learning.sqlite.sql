-- By which history of the book its sidecar has told all that it keeps: every call booked, each lease reported.
ALTER TABLE incarnations ADD COLUMN caught_up TEXT NOT NULL DEFAULT '';
