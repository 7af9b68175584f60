// Package browser gives tests a real Chromium that sees nothing but the loopback,
// and keeps what it complains about: errors on the console, violations of the
// content security policy, requests that failed.
//
// axe.min.js is axe-core 4.14.1 as its authors publish it, with its licence beside
// it: it looks for what keeps people from using a page.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait for a page.
const patience = 30 * time.Second

// Browser is one Chromium.
type Browser struct{ ctx context.Context }

// names are those that Chromium goes by.
var names = []string{"chromium", "chromium-browser", "google-chrome"}

// find is where Chromium is.
func find() (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of %v is installed; `make test` says how to get one", names)
}

// Start starts Chromium for a test, which it ends with. Without one the test is
// skipped, and fails where CI is true: there nobody would see that it was.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := find()
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatalf("no browser: %v", err)
	case err != nil:
		t.Skipf("no browser: %v", err)
	}
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Env("HOME="+t.TempDir()),
		chromedp.Flag("headless", true), chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true),
		// Whatever is no address of the loopback is not found.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
		chromedp.WSURLReadTimeout(60*time.Second),
	)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { cancel(); cancelAlloc() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Browser{ctx: ctx}
}

// View is how a page is looked at.
type View struct {
	// Width and Height are of the window; zero has defaults.
	Width, Height int64
	// Dark asks for dark colours, NoScript runs no script.
	Dark, NoScript bool
}

// Page is one tab. Its methods fail the test.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

// Open opens a tab with cookies of its own.
func (b *Browser) Open(t testing.TB, v View) *Page {
	t.Helper()
	return open(t, b.ctx, v, chromedp.WithNewBrowserContext())
}

// Another opens one more tab with the cookies of this one, which it has to end
// before.
func (p *Page) Another(t testing.TB, v View) *Page {
	t.Helper()
	return open(t, p.ctx, v)
}

// open opens a tab of what a context is of.
func open(t testing.TB, parent context.Context, v View, options ...chromedp.ContextOption) *Page {
	t.Helper()
	p := &Page{t: t}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(p.hear))...)
	t.Cleanup(cancel)
	p.ctx = ctx
	if err := chromedp.Do(ctx, command(log.Enable, cdp.Empty{})); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	p.Look(v)
	return p
}

// command is a command of the protocol as an action.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// Look looks at the page in another way, from the next address on.
func (p *Page) Look(v View) {
	p.t.Helper()
	if v.Width == 0 {
		v.Width, v.Height = 1280, 900
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	p.do("set how it is looked at",
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: v.Width, Height: v.Height, DeviceScaleFactor: 1, Mobile: v.Width < 600,
		}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}),
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: v.NoScript}),
	)
}

// hear keeps what the browser complains about.
func (p *Page) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			text := string(e.Type)
			for _, a := range e.Args {
				text += " " + string(a.Value) + a.Description
			}
			p.complain("console: " + text)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		p.complain("exception: " + text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.complain(fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (p *Page) complain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complaints = append(p.complaints, text)
}

// Complaints are what the browser complained about since they were last asked for.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.complaints
	p.complaints = nil
	return out
}

// do runs actions within the bound of a wait.
func (p *Page) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// get runs an action that has a value.
func get[T any](p *Page, what string, a chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, a)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	return value
}

// Go loads an address and returns when it has loaded.
func (p *Page) Go(address string) {
	p.t.Helper()
	p.do("load "+address, chromedp.Navigate(address))
}

// Click clicks on what a selector finds and is to be seen.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Submit clicks and waits until the page that comes of it has loaded.
func (p *Page) Submit(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)); err != nil {
		p.t.Fatalf("submit %s: %v", selector, err)
	}
}

// Type writes into a field as a person does.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.do("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// Eval is the value of an expression of JavaScript in the page.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	return get(p, "evaluate "+expression[:min(len(expression), 200)], chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Text is what is to be read in the page, also if that is loaded again meanwhile,
// as pages without scripts do by themselves.
func (p *Page) Text() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		if err == nil {
			return text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("read the page: %v", err)
		}
	}
}

// Until waits until an expression of JavaScript is true, also over a page that is
// loaded meanwhile.
func (p *Page) Until(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && is {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("waited until %s: %v\n%s", what, err, p.Text())
		}
	}
}

// Screenshot keeps a picture of the whole page in the folder that
// HOLDFAST_SCREENSHOTS names, or of what the window shows.
func (p *Page) Screenshot(name string, whole bool) {
	p.t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return
	}
	action := chromedp.CaptureScreenshot()
	if whole {
		action = chromedp.FullScreenshot(100)
	}
	picture := get(p, "take a picture", action)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/"+name+".png", picture, 0o644)); err != nil {
		p.t.Fatal(err)
	}
}
