package manifest

import (
	"bytes"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Chunk is the text between two document separators.
type Chunk struct {
	// Line is that of the first byte, counted from 1.
	Line int
	Text []byte
	// bad says what is wrong with the separator that ends the chunk, which is on
	// line badLine.
	bad     string
	badHint string
	badLine int
}

// Problem is what is wrong with the separator that ends the chunk; its message
// is empty when nothing is.
func (c Chunk) Problem(file string) sources.Problem {
	return sources.Problem{File: file, Line: c.badLine, Message: c.bad, Hint: c.badHint}
}

// Split cuts a file where kubectl does: at lines that begin with "---" and go on
// with nothing but a comment. It is stricter in one thing: text behind the end
// marker "...", which kubectl drops without a word, is a problem.
func Split(data []byte) []Chunk {
	var chunks []Chunk
	cur := Chunk{Line: 1}
	start, line, ended := 0, 0, false
	flush := func(end, next int) {
		cur.Text = data[start:end]
		chunks = append(chunks, cur)
		cur, start, ended = Chunk{Line: line + 1}, next, false
	}
	for at := 0; at < len(data); {
		line++
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := data[at:end]
		switch {
		case bytes.HasPrefix(text, []byte("---")):
			if rest := strings.TrimSpace(string(text[3:])); rest != "" && rest[0] != '#' && cur.bad == "" {
				cur.bad, cur.badLine = "only a comment may follow the separator ---", line
				cur.badHint = "put the document on the next line"
			}
			flush(at, end)
		case isEndMarker(text):
			ended = true
		case ended && cur.bad == "" && hasContent(text):
			cur.bad, cur.badLine = "text follows the end of the document (...)", line
			cur.badHint = "begin a new document with ---"
		}
		at = end
	}
	flush(len(data), len(data))
	return chunks
}

func isEndMarker(line []byte) bool {
	return bytes.HasPrefix(line, []byte("...")) && !hasContent(line[3:])
}

// hasContent says whether a line has more than spaces and a comment.
func hasContent(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#'
}

// firstContent is the line of the chunk's first line that is neither empty nor
// a comment, and whether there is one.
func (c Chunk) firstContent() (int, bool) {
	line := c.Line
	for text := range bytes.Lines(c.Text) {
		if hasContent(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))) {
			return line, true
		}
		line++
	}
	return c.Line, false
}

// tokens is an upper bound of the nodes in a text.
func tokens(text []byte) int {
	n := 0
	for _, b := range text {
		switch b {
		case ',', ':', '[', '{', '\n':
			n++
		}
	}
	return n
}
