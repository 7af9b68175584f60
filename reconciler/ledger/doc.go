// Package ledger is the durable record of what Holdfast did and found: runs with
// what they changed, episodes of drift from first seen to their end, and what
// people asked for.
//
// It is a SQLite file in the data directory, and history only: nothing is
// decided by it, and a wipe loses nothing else. So nothing waits for it that
// matters. One goroutine, Run, writes in batched transactions what a bounded
// queue holds; a correction only leaves a note there. When the disk is full or
// the file broken, that is said, and Holdfast goes on reconciling.
//
// A file that is damaged is set aside beside itself, and a new one begun; before
// a schema is migrated, the old file is copied.
package ledger
