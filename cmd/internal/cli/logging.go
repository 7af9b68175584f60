package cli

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

// newLogger makes the daemon's logger: readable on a terminal, else JSON.
func newLogger(w io.Writer, o config.Log, colors bool) zerolog.Logger {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	level, err := zerolog.ParseLevel(o.Level)
	if err != nil { // the configuration allows no other
		level = zerolog.InfoLevel
	}
	if o.Format == "console" || o.Format == "auto" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !colors, TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// adoptLibraries makes the libraries' logs come out as ours. Theirs tell how
// they work rather than that something changed, so info becomes debug; and what
// they call an error they have handled, so it becomes a warning.
func adoptLibraries(log zerolog.Logger) {
	slog.SetDefault(slog.New(zerolog.NewSlogHandler(log)))
	quieter := demoted{zerolog.NewSlogHandler(log.With().Str("library", "kubernetes").Logger())}
	klog.SetLoggerWithOptions(logr.FromSlogHandler(quieter), klog.ContextualLogger(true))
	ctrllog.SetLogger(logr.FromSlogHandler(quieter))
}

// demoted passes records on at a lower level.
type demoted struct{ next slog.Handler }

func demote(level slog.Level) slog.Level {
	if level >= slog.LevelWarn {
		return slog.LevelWarn
	}
	return min(level, slog.LevelDebug)
}

// Enabled implements slog.Handler.
func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	return d.next.Enabled(ctx, demote(level))
}

// Handle implements slog.Handler.
func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = demote(r.Level)
	return d.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler { return demoted{d.next.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.next.WithGroup(name)} }
