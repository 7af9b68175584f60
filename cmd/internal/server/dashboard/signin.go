package dashboard

import "net/http"

// SignIn is the page on which people say who they are.
type SignIn struct {
	// Token: one can sign in with a token.
	Token bool
	// Provider is the name of the provider that one can sign in with, and
	// ProviderPath where that begins; empty where there is none.
	Provider, ProviderPath string
	// Next is where it goes on.
	Next string
	// Problem is why the last try failed.
	Problem string
}

// ShowSignIn shows the page.
func (d *Dashboard) ShowSignIn(w http.ResponseWriter, r *http.Request, status int, s SignIn) {
	p := d.newPage(r, "", "Sign in", "", s)
	p.Refresh = 0
	p.Viewer.SignIn = "" // it is here
	d.show(w, r, status, "signin", p)
}
