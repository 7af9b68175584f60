package tracing

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math"
	"regexp"
	"strings"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// parentForm is a traceparent as W3C has it; later versions may have more behind.
var parentForm = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)

// ValidParent is a traceparent that may be kept, and empty for all else.
func ValidParent(text string) string {
	if len(text) > 256 {
		return ""
	}
	m := parentForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || m[1] == "ff" || m[1] == "00" && m[5] != "" || strings.Trim(m[2], "0") == "" || strings.Trim(m[3], "0") == "" {
		return ""
	}
	return strings.Join(m[1:5], "-")
}

// place is where a span belongs.
type place struct{ trace, parent []byte }

// begin is the place of a new trace's first span, and whether the trace is kept:
// as whoever asked says, and else by a share of all.
func (t *Tracer) begin(parent string) (place, bool) {
	if m := parentForm.FindStringSubmatch(ValidParent(parent)); m != nil {
		trace, _ := hex.DecodeString(m[2]) // the form says that they are
		span, _ := hex.DecodeString(m[3])
		flags, _ := hex.DecodeString(m[4])
		return place{trace, span}, flags[0]&1 == 1
	}
	trace := make([]byte, 16)
	rand.Read(trace)
	share := float64(binary.BigEndian.Uint64(trace[8:])>>1) / float64(math.MaxInt64)
	return place{trace: trace}, share*100 < float64(t.opts.SamplePercent)
}

func newSpan(at place, name string, began, ended time.Time) *tracepb.Span {
	id := make([]byte, 8)
	rand.Read(id)
	return &tracepb.Span{
		TraceId: at.trace, SpanId: id, ParentSpanId: at.parent, Name: name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: nanos(began), EndTimeUnixNano: nanos(ended),
	}
}

func nanos(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, n int) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(n)}}}
}

func failed(s *tracepb.Span) { s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR} }

// counts are the counts that are not zero.
func counts(c reconciler.Counts) []*commonpb.KeyValue {
	var out []*commonpb.KeyValue
	for _, one := range []struct {
		name string
		n    int
	}{
		{"created", c.Created}, {"updated", c.Updated}, {"corrected", c.Corrected}, {"adopted", c.Adopted}, {"deleted", c.Deleted},
		{"unchanged", c.Unchanged}, {"pending", c.Pending}, {"held", c.Held}, {"failed", c.Failed},
	} {
		if one.n > 0 {
			out = append(out, number("holdfast.count."+one.name, one.n))
		}
	}
	return out
}

// events name objects, and nothing of what is in them.
func events(all []reconciler.Touched) []*tracepb.Span_Event {
	out := make([]*tracepb.Span_Event, len(all))
	for i, o := range all {
		outcome := "done"
		if o.Failed {
			outcome = "failed"
		}
		out[i] = &tracepb.Span_Event{
			Name: string(o.Op), TimeUnixNano: nanos(o.At),
			Attributes: []*commonpb.KeyValue{text("holdfast.object", o.Object.String()), text("holdfast.outcome", outcome)},
		}
	}
	return out
}

// TraceRun implements reconciler.Tracer.
func (t *Tracer) TraceRun(r reconciler.RunTrace) (string, func(reconciler.Health, time.Time)) {
	at, keep := t.begin(r.Origin.Parent)
	if !keep {
		return "", nil
	}
	run := r.Run
	began := run.Started
	if a := r.Origin.Asked; !a.IsZero() && a.Before(began) {
		began = a
	}
	root := newSpan(at, "run", began, run.Finished)
	root.Kind = tracepb.Span_SPAN_KIND_CONSUMER
	root.Attributes = append([]*commonpb.KeyValue{
		text("holdfast.run", run.ID), text("holdfast.environment", run.Environment), text("holdfast.target", r.Target),
		text("holdfast.revision", run.Revision.ID), text("holdfast.result", string(run.Result)),
		text("holdfast.reason", run.Trigger.Reason.String()), text("holdfast.actor", run.Trigger.Actor), number("holdfast.errors", len(run.Errors)),
	}, counts(run.Counts)...)
	if run.Result == reconciler.Failed || run.Result == reconciler.Partial {
		failed(root)
	}
	below := place{at.trace, root.SpanId}
	spans := []*tracepb.Span{newSpan(below, "trigger", began, cmp.Or(r.Origin.Fetched, run.Started))}
	if o := r.Origin; !o.Fetched.IsZero() && !o.FetchEnded.Before(o.Fetched) {
		spans = append(spans, newSpan(below, "fetch", o.Fetched, o.FetchEnded))
	}
	for _, p := range r.Phases {
		s := newSpan(below, p.Name, p.Began, p.Ended)
		if p.Failed {
			failed(s)
		}
		if p.Name == "apply" {
			s.Events = events(r.Objects)
		}
		spans = append(spans, s)
	}
	t.put(spans...)
	return hex.EncodeToString(at.trace), func(h reconciler.Health, ended time.Time) { t.settle(root, below, run.Finished, h, ended) }
}

// settle ends a run's trace. Without a word on health there was nothing to wait
// for.
func (t *Tracer) settle(root *tracepb.Span, below place, from time.Time, h reconciler.Health, ended time.Time) {
	if h == "" {
		t.put(root)
		return
	}
	word := string(h)
	if h == reconciler.HealthUnknown {
		word = "overtaken"
	}
	wait := newSpan(below, "wait for health", from, ended)
	wait.Attributes = []*commonpb.KeyValue{text("holdfast.health", word)}
	root.Attributes = append(root.Attributes, text("holdfast.health", word))
	root.EndTimeUnixNano = nanos(ended)
	if h == reconciler.HealthFailed {
		failed(wait)
		failed(root)
	}
	t.put(wait, root)
}

// TraceCorrection implements reconciler.Tracer.
func (t *Tracer) TraceCorrection(c reconciler.CorrectionTrace) {
	at, keep := t.begin("")
	if !keep {
		return
	}
	root := newSpan(at, "correction", c.Sensed, c.Ended)
	root.Attributes = append([]*commonpb.KeyValue{text("holdfast.environment", c.Environment), text("holdfast.target", c.Target)}, counts(c.Counts)...)
	below := place{at.trace, root.SpanId}
	apply := newSpan(below, "apply", c.Read, c.Ended)
	apply.Events = events(c.Objects)
	if c.Counts.Failed > 0 {
		failed(root)
		failed(apply)
	}
	t.put(newSpan(below, "sense", c.Sensed, c.Began), newSpan(below, "read", c.Began, c.Read), apply, root)
}
