package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
	"github.com/holdfast-gitops/holdfast/sources"
)

// PathSources is where sources are listed; single ones are below it.
const PathSources = "/api/v1/sources"

// The kinds of sources.
const (
	KindGit = "git"
	KindOCI = "oci"
	KindDir = "dir"
)

// Source is how a source stands.
type Source struct {
	Name string `json:"name"`
	// Kind is git, oci or dir.
	Kind string `json:"kind"`
	// URL is without credentials; of a directory it is the path.
	URL string `json:"url"`
	// MovedTo is where the server redirects to, which should become the URL.
	MovedTo string `json:"movedTo,omitempty"`
	// Web are the addresses of the repository's web pages, where they are known.
	Web *forge.Templates `json:"web,omitempty"`
	// Ref is what is followed: a ref, or a range of versions.
	Ref string `json:"ref,omitempty"`
	// Interval is how often the source is looked at, as in "30s".
	Interval string `json:"interval"`
	// Revision is in force; zero while there is none.
	Revision sources.Revision `json:"revision,omitzero"`
	// Commits are those that it brought beyond the revision before, newest first
	// and at most 20; none is known for the first after a start.
	Commits []sources.Revision `json:"commits,omitempty"`
	// Head is the newest that was seen, where that is another.
	Head sources.Revision `json:"head,omitzero"`
	// LastListing is when the source last answered what is newest, LastFetch when
	// something was last downloaded.
	LastListing time.Time `json:"lastListing,omitzero"`
	LastFetch   time.Time `json:"lastFetch,omitzero"`
	// FetchBytes and FetchSeconds are those of the last download.
	FetchBytes   int64   `json:"fetchBytes,omitempty"`
	FetchSeconds float64 `json:"fetchSeconds,omitempty"`
	// Downloads and DownloadedBytes count all since the configuration was loaded.
	Downloads       int64 `json:"downloads,omitempty"`
	DownloadedBytes int64 `json:"downloadedBytes,omitempty"`
	// MirrorBytes is what is kept of the repository.
	MirrorBytes int64 `json:"mirrorBytes,omitempty"`
	// Failures counts the looks in a row that failed.
	Failures int `json:"failures,omitempty"`
	// NextTry is when it is looked at next by itself.
	NextTry time.Time `json:"nextTry,omitzero"`
	// Errors are what is wrong now, and LastError with LastErrorAt what was last.
	Errors      sources.Problems `json:"errors,omitempty"`
	LastError   string           `json:"lastError,omitempty"`
	LastErrorAt time.Time        `json:"lastErrorAt,omitzero"`
	// Push is the pattern of the branches that may be pushed to the source; empty
	// where none may.
	Push string `json:"push,omitempty"`
	// Held is a revision that waits, because history was rewritten.
	Held *HeldRevision `json:"held,omitempty"`
}

// HeldRevision is a revision that does not descend from the one in force.
type HeldRevision struct {
	// From is in force and stays so, To waits.
	From sources.Revision `json:"from"`
	To   sources.Revision `json:"to"`
	// Ancestry is how the two stand: rewinds, diverges or undecided.
	Ancestry string    `json:"ancestry"`
	Since    time.Time `json:"since"`
	// Command lets it through.
	Command string `json:"command"`
}

// Sources answers how all sources stand.
type Sources struct {
	Sources []Source `json:"sources"`
}

// AllowRequest lets a held revision through.
type AllowRequest struct {
	// Revision is the full id of the revision that is held.
	Revision string `json:"revision"`
	// Reason is read by others.
	Reason string `json:"reason"`
	// Author is who asks, as the caller says.
	Author string `json:"author,omitempty"`
}

// Sources is how all sources stand.
func (c *Client) Sources(ctx context.Context) (Sources, error) {
	return call[Sources](ctx, c, http.MethodGet, PathSources, nil, 0)
}

// Source is how one source stands.
func (c *Client) Source(ctx context.Context, name string) (Source, error) {
	return call[Source](ctx, c, http.MethodGet, PathSources+"/"+url.PathEscape(name), nil, 0)
}

// Allow lets a held revision of a source through.
func (c *Client) Allow(ctx context.Context, name string, r AllowRequest) (Source, error) {
	return post[Source](ctx, c, PathSources+"/"+url.PathEscape(name)+"/allow", r)
}
