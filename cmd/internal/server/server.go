// Package server is the daemon's HTTP side: the API, the page that people look
// at, metrics and probes, over TCP and over a Unix socket.
//
// Whoever reaches the socket may change things, since its mode says who that is;
// over TCP a change needs a token and a Host header that is ours. It decides
// nothing about environments: an Engine does.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Engine is what the server asks.
type Engine interface {
	Environments() []reconciler.Status
	// SourceProblems is what is wrong with sources, by name.
	SourceProblems() map[string]sources.Problems
	Environment(name string) (reconciler.Status, bool)
	Drift(f reconciler.Filter) reconciler.Report
	// Resync asks for runs, of all environments when names is nil, and returns
	// receipts at once.
	Resync(names []string, t reconciler.Trigger) ([]reconciler.Run, error)
	// Wait returns a run when it ended, or as it is when ctx ends.
	Wait(ctx context.Context, runID string) (reconciler.Run, error)
	LastResync() []reconciler.Run
}

// Options are what a server needs. Engine is required.
type Options struct {
	Engine Engine
	// Decider and Planner serve holds, rollbacks and plans; nil means that there
	// are none.
	Decider Decider
	Planner Planner
	// Drifts serves decisions about single drifts; nil means that there are none.
	Drifts Drifts
	// Sources serves how sources stand; nil means that nothing is known of them.
	Sources Sources
	// Audit takes audit events, from callers that have the token in AuditTokenFile;
	// without both there are none.
	Audit          Auditor
	AuditTokenFile string
	// Ready says whether the daemon is; nil means always.
	Ready func() error
	// Ledger is what is on record; nil means that nothing is.
	Ledger *ledger.Ledger
	// Metrics serves /metrics; nil means that there is none.
	Metrics http.Handler
	// Notifications tests receivers; nil means that there are none.
	Notifications Notifications
	// Lists serves objects, targets and what people decided; nil means that there
	// are none.
	Lists Lists
	// Blamer knows who wrote lines; nil knows of none.
	Blamer Blamer
	// Started is when the daemon was.
	Started time.Time
	// Events are what changes; nil means that nobody is told.
	Events *events.Hub
	// Webhooks receives what forges say; nil means that nobody does.
	Webhooks http.Handler
	// Listen is the address for TCP, if Handler is used without Serve: Host
	// headers that name it are ours. Serve goes by its listener.
	Listen string
	// Hosts are further names that Host headers may have.
	Hosts []string
	// TokenFile holds the token for calls over TCP that change something, with the
	// role operate; Tokens are others. Without any there are no such calls.
	TokenFile string
	Tokens    []Token
	// OIDC is a provider that people sign in with; nil is none. It needs URL.
	OIDC *OIDC
	// Cluster knows further tokens; nil is none.
	Cluster Cluster
	// URL is the address by which browsers reach the server, as behind a proxy;
	// empty where there is no other than its own.
	URL string
	// ReadsNeedToken asks for one over TCP for all but the probes.
	ReadsNeedToken bool
	// ChangesPerMinute bounds a client's calls over TCP that change something;
	// zero has a default.
	ChangesPerMinute int
	// TLS, when not nil, is what TCP is served with, as NewTLS makes it.
	TLS *tls.Config
	// ClientCertificates asks for one over TCP for all but the probes.
	ClientCertificates bool
	// Links leads to web pages of repositories; nil knows none.
	Links dashboard.Links
	// Version is shown on the pages.
	Version string
	Logger  zerolog.Logger
	// ShutdownTimeout bounds the graceful end; zero has a default.
	ShutdownTimeout time.Duration
	// Now is the clock, for tests.
	Now func() time.Time
}

// Server answers. Create it with New.
type Server struct {
	opts Options
	// answers are kept while they are current.
	answers *answers
	// limits bounds callers over TCP.
	limits *limiter
	// sessions are the browsers that signed in; provider is nil without OIDC.
	sessions *sessions
	provider *provider
	// holders is nil where no cluster knows tokens.
	holders *holders
	// streams counts those of events that are open; heartbeat is how often a quiet
	// one says that it lives, and patience how long its reader may take.
	streams   atomic.Int32
	heartbeat time.Duration
	patience  time.Duration
	// heavy is held by the one call that may load the disk.
	heavy sync.Mutex
}

// New makes a server; it listens nowhere.
func New(o Options) *Server {
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		opts: o, answers: newAnswers(), limits: newLimiter(o.ChangesPerMinute, o.Now), sessions: newSessions(o.Now),
		heartbeat: heartbeat, patience: streamWrite,
	}
	if o.OIDC != nil {
		s.provider = newProvider(*o.OIDC, o.URL, o.Now)
	}
	if o.Cluster != nil {
		s.holders = newHolders(o.Cluster, o.Now)
	}
	return s
}

// Serve answers on both listeners, of which one may be nil, until ctx ends, and
// closes them. Calls that wait are answered with what is known; what is then
// still under way after ShutdownTimeout is cut off.
func (s *Server) Serve(ctx context.Context, tcp, socket net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	serve := func(l net.Listener, handler http.Handler) {
		all.Go(func() {
			if err := s.serveOne(ctx, l, handler); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				cancel() // one listener lost: the other must not hide it
			}
		})
	}
	if tcp != nil {
		handler := s.untrusted(tcp.Addr().String())
		if s.opts.TLS != nil {
			tcp = tls.NewListener(tcp, s.opts.TLS)
		}
		serve(tcp, handler)
	}
	if socket != nil {
		serve(socket, s.Handler(true))
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *Server) serveOne(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Calls that wait end with ctx, so that they do not hold up the end.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    stdlog.New(debugWriter{s.opts.Logger}, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-ended // http.ErrServerClosed: Shutdown was asked for
	return err
}

// debugWriter takes what net/http has to say about broken connections, which is
// nobody's business unless they look for it.
type debugWriter struct{ log zerolog.Logger }

// Write logs one line.
func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("detail", string(p)).Msg("http connection failed")
	return len(p), nil
}
