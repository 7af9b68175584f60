//go:build !race

package render

// raceEnabled says that the race detector is built in.
const raceEnabled = false
