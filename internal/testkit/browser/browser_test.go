package browser_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/browser"
)

func TestTheBrowserTellsWhatIsWrongWithAPage(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/good":
			io.WriteString(w, `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>good</title><main><h1>Good</h1></main><noscript>without script</noscript>`)
		case "/script.js":
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, `console.error("it broke"); document.body.dataset.ready = "yes"; undefinedFunction()`)
		default:
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
			io.WriteString(w, `<!doctype html><html lang="en"><title>bad</title><p style="color:red">styled</p><img src="/icon"><script src="/script.js"></script>`)
		}
	}))
	defer site.Close()
	b := browser.Start(t)
	p := b.Open(t, browser.View{})
	p.Go(site.URL + "/good")
	if got := p.Complaints(); len(got) > 0 {
		t.Errorf("of a good page: %v", got)
	}
	if got := p.Audit(browser.Whole); len(got) > 0 {
		t.Errorf("a good page has faults: %v", got)
	}
	p.Go(site.URL + "/bad")
	p.Until("the script ran", `document.body.dataset.ready === "yes"`)
	faults := p.Audit(browser.Whole)
	if len(faults) == 0 || !strings.Contains(faults[0].String(), "image-alt") {
		t.Errorf("the faults of a bad page: %v", faults)
	}
	if got := p.Audit(browser.Contrast); len(got) > 0 {
		t.Errorf("faults of its contrast: %v", got)
	}
	if got := p.Audit(browser.AllButColor); len(got) == 0 {
		t.Error("an audit without contrast finds nothing")
	}
	said := strings.Join(p.Complaints(), "\n")
	for _, want := range []string{"it broke", "undefinedFunction", "Content Security Policy"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not complain of %q:\n%s", want, said)
		}
	}
	p.Look(browser.View{Width: 390, Height: 800, Dark: true, NoScript: true})
	p.Go(site.URL + "/good")
	if text := p.Text(); !strings.Contains(text, "without script") {
		t.Errorf("scripts run: %q", text)
	}
	if !browser.Eval[bool](p, `matchMedia("(prefers-color-scheme: dark)").matches && innerWidth === 390`) {
		t.Error("it is not looked at as asked for")
	}
}
