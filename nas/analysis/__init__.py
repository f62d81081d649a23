"""What a study shows: tables, comparisons, importance, agreement. Numbers and sentences, no drawings."""
