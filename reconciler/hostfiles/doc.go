// Package hostfiles is the driver for files in a directory of a host: the
// configuration of a plain machine, kept as git says it is.
//
// Its items are documents of kind File (host.holdfast.dev/v1alpha1). A file is
// written beside its place and renamed into it, so that a reader never sees half
// of one. What an environment owns is recorded in .holdfast below the root before
// the first of it is written; nothing else is ever changed or deleted. No path
// leads out of the root, and no symbolic link is followed.
//
// Drift is sensed by fsnotify, and, for what that misses, by looking at every
// file's metadata now and then; the verdict is by content, mode and owner.
//
// A namespace is a folder directly below the root: a source that was granted a
// namespace may write there and nowhere else.
package hostfiles
