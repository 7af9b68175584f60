package drift

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Masked is what every output shows instead of a sensitive value.
const Masked = "(sensitive)"

// maxValue bounds, in bytes of JSON, how much of a value a report carries.
const maxValue = 4096

// Value is a field's value in a report. Its text and JSON forms mask what is
// sensitive: sensitivity travels with the value, so no printer has to remember.
type Value struct {
	raw       json.RawMessage
	present   bool
	sensitive bool
	cut       bool
}

// Absent is the value of a field that is not there.
func Absent() Value { return Value{} }

// NewValue holds v, which must be something encoding/json encodes. A long value
// is cut, since a report is no copy of the object.
func NewValue(v any, sensitive bool) Value {
	if sensitive {
		return Value{present: true, sensitive: true}
	}
	out := Value{raw: encode(v), present: true}
	raw := out.raw
	if len(raw) > maxValue {
		end := maxValue
		for end > 0 && !utf8.RuneStart(raw[end]) {
			end--
		}
		out.raw, out.cut = json.RawMessage(raw[:end]), true
	}
	return out
}

// encode keeps <, > and & as they are: people read it, and pages escape by
// themselves.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return json.RawMessage(strconv.Quote(err.Error()))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// reencode undoes the escapes that encoding/json puts in when it embeds a value.
func reencode(raw json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if len(raw) == 0 || dec.Decode(&v) != nil {
		return raw
	}
	return encode(v)
}

// Present reports whether the field was there.
func (v Value) Present() bool { return v.present }

// String is the compact JSON of the value, Masked if it is sensitive, and
// "(absent)" if there is none.
func (v Value) String() string {
	switch {
	case !v.present:
		return "(absent)"
	case v.sensitive:
		return Masked
	case v.cut:
		return string(v.raw) + "…"
	}
	return string(v.raw)
}

// wireValue is the JSON form, which says apart "absent", "null" and "masked".
type wireValue struct {
	Value     json.RawMessage `json:"value,omitempty"`
	Text      string          `json:"text,omitempty"`
	Absent    bool            `json:"absent,omitempty"`
	Sensitive bool            `json:"sensitive,omitempty"`
	Truncated bool            `json:"truncated,omitempty"`
}

// MarshalJSON never holds a sensitive value.
func (v Value) MarshalJSON() ([]byte, error) {
	switch {
	case !v.present:
		return json.Marshal(wireValue{Absent: true})
	case v.sensitive:
		return json.Marshal(wireValue{Sensitive: true})
	case v.cut:
		return json.Marshal(wireValue{Text: string(v.raw), Truncated: true})
	}
	return json.Marshal(wireValue{Value: v.raw})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Value) UnmarshalJSON(b []byte) error {
	var w wireValue
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*v = Value{raw: reencode(w.Value), present: !w.Absent, sensitive: w.Sensitive, cut: w.Truncated}
	if w.Truncated {
		v.raw = json.RawMessage(w.Text)
	}
	return nil
}

// Exact is the value as compact JSON, for those who write it somewhere. It is not
// there if the value is absent, sensitive, or was cut.
func (v Value) Exact() (raw json.RawMessage, ok bool) {
	if !v.present || v.sensitive || v.cut {
		return nil, false
	}
	return v.raw, true
}
