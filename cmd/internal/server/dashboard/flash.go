package dashboard

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
)

// flash is what a page says once about the form that was sent before it. It
// travels in a cookie, which no link can set.
type flash struct {
	// Bad: it could not be done.
	Bad  bool   `json:"b,omitempty"`
	Text string `json:"t"`
	Hint string `json:"h,omitempty"`
	// Link leads to what came of it.
	Link string `json:"l,omitempty"`
}

const flashCookie = "holdfast_said"

// maxFlash bounds the text, since browsers bound cookies.
const maxFlash = 1000

func setFlash(w http.ResponseWriter, r *http.Request, f flash) {
	f.Text, f.Hint = cut(f.Text, maxFlash), cut(f.Hint, maxFlash)
	data, err := json.Marshal(f)
	if err != nil {
		return // strings always encode
	}
	http.SetCookie(w, &http.Cookie{
		Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString(data), Path: "/", MaxAge: 60,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
}

// takeFlash is what is to be said, once.
func takeFlash(w http.ResponseWriter, r *http.Request) *flash {
	c, err := r.Cookie(flashCookie)
	if err != nil {
		return nil
	}
	if r.Header.Get("HX-Request") == "" {
		http.SetCookie(w, &http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	}
	data, err := base64.RawURLEncoding.DecodeString(c.Value)
	var f flash
	if err != nil || json.Unmarshal(data, &f) != nil || f.Text == "" {
		return nil
	}
	if !local(f.Link) {
		f.Link = ""
	}
	return &f
}

// local reports whether an address is a path of ours. Browsers drop control
// characters and take a backslash for a slash, so none may be in it.
func local(address string) bool {
	if !strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//") {
		return false
	}
	return !strings.ContainsFunc(address, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
}
