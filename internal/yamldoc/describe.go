package yamldoc

// Shape is what a decoder's code takes from a place: it is found by running that
// code over a node that stands for anything.
type Shape struct {
	// Type is that of JSON Schema: object, array, string, boolean or integer.
	// Empty is anything.
	Type string
	// Keys of an object, in the order in which they are read.
	Keys   []string
	Fields map[string]*Shape
	// Items is the shape of a list's entries.
	Items *Shape
	// Words are all that a text may be.
	Words []string
	// Least and Most bound a number.
	Least, Most int64
	// Number: a number may stand for the text.
	Number bool
	// Duration: a text that is one.
	Duration bool
}

// Describe makes a node that records in the shape what is read of it, instead of
// being read. What the reading code concludes of its values is to be ignored.
func Describe() (*Node, *Shape) {
	s := &Shape{}
	return &Node{Kind: Mapping, shape: s}, s
}

// Also says that a number may stand for a text, and reports whether the node is
// one that records.
func (n *Node) Also() bool {
	if n.shape != nil {
		n.shape.Type, n.shape.Number = "string", true
	}
	return n.shape != nil
}

func (s *Shape) object(fields []Field) {
	s.Type = "object"
	if s.Fields == nil {
		s.Fields = map[string]*Shape{}
	}
	for _, f := range fields {
		n, child := Describe()
		s.Keys, s.Fields[f.Key] = append(s.Keys, f.Key), child
		f.Read(n)
	}
}

func (s *Shape) list() []*Node {
	n, items := Describe()
	s.Type, s.Items = "array", items
	return []*Node{n}
}

func (s *Shape) text(words []string) { s.Type, s.Words = "string", words }

func (s *Shape) number(least, most int64) { s.Type, s.Least, s.Most = "integer", least, most }

func (s *Shape) duration() { s.Type, s.Duration = "string", true }
