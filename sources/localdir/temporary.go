package localdir

import (
	"path/filepath"
	"strings"
)

// temporary tells whether a name is one that editors and desktops give to files
// of their own, beside what they edit. They come and go while people type.
func temporary(name string) bool {
	switch {
	case len(name) > 1 && strings.HasSuffix(name, "~"), // backups of most editors
		strings.HasPrefix(name, ".#"), // locks of Emacs
		len(name) > 1 && strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#"), // what Emacs saves by itself
		strings.HasPrefix(name, ".goutputstream-"),                                    // gedit
		strings.HasPrefix(name, ".fuse_hidden"), strings.HasPrefix(name, ".nfs0"),
		strings.HasSuffix(name, "___jb_tmp___"), strings.HasSuffix(name, "___jb_old___"), // JetBrains
		name == "4913", // how Vim finds out whether it may write
		name == ".DS_Store":
		return true
	}
	if !strings.HasPrefix(name, ".") {
		return false
	}
	switch filepath.Ext(name) {
	case ".swp", ".swo", ".swx", ".swn", ".kate-swp": // Vim and Kate
		return true
	}
	return false
}
