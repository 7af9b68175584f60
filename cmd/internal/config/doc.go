// Package config is the daemon's file: what it follows, where it applies it, and
// how it can be reached.
//
// It loads and validates, names every problem with its line and column, and
// fills in the defaults. It opens no source and no target, and reads no secret:
// files that hold one are only named here, because they rotate.
package config
