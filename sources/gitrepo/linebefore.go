package gitrepo

import (
	"bytes"
	"errors"
)

// maxCompared bounds the comparison of two versions of a file: the lines of one
// times those of the other, without what both begin and end with. Each takes two
// bytes.
const maxCompared = 4 << 20

var errTooDifferent = errors.New("the versions differ too much to be compared")

// lineBefore finds where a line of the version now was in the one before it; ok is
// false when the line came with now. Lines belong together as in the longest row
// of lines that both have in the same order.
func lineBefore(old, now [][]byte, at int) (before int, ok bool, err error) {
	begin := 0
	for begin < len(old) && begin < len(now) && bytes.Equal(old[begin], now[begin]) {
		begin++
	}
	if at < begin {
		return at, true, nil
	}
	end := 0
	for end < len(old)-begin && end < len(now)-begin && bytes.Equal(old[len(old)-1-end], now[len(now)-1-end]) {
		end++
	}
	if at >= len(now)-end {
		return at + len(old) - len(now), true, nil
	}
	in, ok, err := lineWithin(old[begin:len(old)-end], now[begin:len(now)-end], at-begin)
	return begin + in, ok, err
}

// lineWithin is lineBefore for versions that begin and end differently.
func lineWithin(old, now [][]byte, at int) (before int, ok bool, err error) {
	if len(old) == 0 {
		return 0, false, nil
	}
	// A row is no longer than the shorter version, which the bound keeps far below
	// what two bytes can count.
	width := len(now) + 1
	if (len(old)+1)*width > maxCompared {
		return 0, false, errTooDifferent
	}
	// row[i*width+j] is how long the row is that begins at old[i] and now[j].
	row := make([]uint16, (len(old)+1)*width)
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(now) - 1; j >= 0; j-- {
			if bytes.Equal(old[i], now[j]) {
				row[i*width+j] = row[(i+1)*width+j+1] + 1
				continue
			}
			row[i*width+j] = max(row[(i+1)*width+j], row[i*width+j+1])
		}
	}
	for i, j := 0, 0; i < len(old) && j <= at; {
		switch {
		case bytes.Equal(old[i], now[j]):
			if j == at {
				return i, true, nil
			}
			i, j = i+1, j+1
		case row[(i+1)*width+j] >= row[i*width+j+1]:
			i++
		default:
			j++
		}
	}
	return 0, false, nil
}
