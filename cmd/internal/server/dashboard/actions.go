package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/sources"
)

// form is a form that a page sent.
type form struct {
	url.Values
}

// text is a field without space around it.
func (f form) text(name string) string { return strings.TrimSpace(f.Get(name)) }

// call is a call of the API that a form stands for, and what is said when it
// worked.
type call struct {
	path string
	body any
	said string
}

// verbs are what forms may ask for. Whether the one who sends it may, and whether
// it makes sense, the API says.
var verbs = map[string]func(f form) (call, error){
	"resync": func(f form) (call, error) {
		req := api.ResyncRequest{Environments: f.Values["environment"], Verify: f.Get("verify") != "", Approve: f.text("approve"), Reason: f.text("reason")}
		if through := f.text("through"); through != "" {
			req.Through = []string{through}
		}
		said := "A run was asked for."
		if req.Approve != "" {
			said = "The plan " + req.Approve + " is approved; a run was asked for."
		}
		return call{api.PathResync, req, said}, nil
	},
	"hold": func(f form) (call, error) {
		req := api.HoldRequest{Environments: f.Values["environment"], For: f.text("for"), Reason: f.text("reason")}
		if object := f.text("object"); object != "" {
			id, err := sources.ParseID(object)
			if err != nil {
				return call{}, err
			}
			req.Object = &id
		}
		return call{api.PathHolds, req, "Held for " + req.For + "."}, nil
	},
	"unhold": func(f form) (call, error) {
		return call{api.PathHolds + "/" + url.PathEscape(f.text("hold")) + "/end", api.HoldChange{}, "The hold has ended."}, nil
	},
	"extend": func(f form) (call, error) {
		return call{api.PathHolds + "/" + url.PathEscape(f.text("hold")) + "/extend", api.HoldChange{For: f.text("for")}, "The hold goes on for " + f.text("for") + " from now."}, nil
	},
	"rollback": func(f form) (call, error) {
		req := api.RollbackRequest{To: f.text("to"), For: f.text("for"), Reason: f.text("reason")}
		return call{about(f.text("environment"), "/rollback"), req, "Going back. It stays there until it is released."}, nil
	},
	"release": again("release", "Released: it follows git again."),
	"retry":   again("retry", "The revision is tried again."),
	"delete":  again("delete", "Confirmed: its objects go."),
	"revert": func(f form) (call, error) {
		id, err := sources.ParseID(f.text("object"))
		req := api.RevertRequest{Object: &id, Reason: f.text("reason")}
		return call{about(f.text("environment"), "/drift/revert"), req, id.String() + " is put back."}, err
	},
	"accept": func(f form) (call, error) {
		id, err := sources.ParseID(f.text("object"))
		req := api.AcceptRequest{Object: &id, Field: f.text("field"), For: f.text("for"), Reason: f.text("reason")}
		return call{about(f.text("environment"), "/drift/accept"), req, "Accepted for " + f.text("for") + "."}, err
	},
	"allow": func(f form) (call, error) {
		req := api.AllowRequest{Revision: f.text("revision"), Reason: f.text("reason")}
		return call{api.PathSources + "/" + url.PathEscape(f.text("source")) + "/allow", req, "The revision is allowed, once."}, nil
	},
}

// again is for what an environment is asked to do with no more than its name.
func again(verb, said string) func(form) (call, error) {
	return func(f form) (call, error) {
		return call{about(f.text("environment"), "/"+verb), api.ActorRequest{}, said}, nil
	}
}

// do carries a form out, and goes back to the page that it stood on.
func (d *Dashboard) do(w http.ResponseWriter, r *http.Request) {
	make, ok := verbs[r.PathValue("verb")]
	if !ok {
		d.failed(w, r, "environments", problem{Status: http.StatusNotFound, Detail: "there is no such form"})
		return
	}
	if err := r.ParseForm(); err != nil {
		d.failed(w, r, "environments", problem{Status: http.StatusBadRequest, Detail: "the form cannot be read"})
		return
	}
	back := r.PostForm.Get("back")
	if !local(back) {
		back = "/"
	}
	said := d.carryOut(r, make, form{r.PostForm})
	setFlash(w, r, said)
	http.Redirect(w, r, back, http.StatusSeeOther)
}

func (d *Dashboard) carryOut(r *http.Request, make func(form) (call, error), f form) flash {
	c, err := make(f)
	if err != nil {
		return flash{Bad: true, Text: sentence(err.Error()) + "."}
	}
	var receipt struct {
		api.Receipts
		Run struct {
			ID string `json:"id"`
		} `json:"run"`
	}
	if p := d.call(r, http.MethodPost, c.path, c.body, &receipt); p != nil {
		text := p.Detail
		for i, more := range p.Problems {
			if i == 3 {
				break
			}
			text += fmt.Sprintf("; %s", more.Error())
		}
		return flash{Bad: true, Text: sentence(text) + ".", Hint: p.Hint}
	}
	out := flash{Text: c.said}
	switch {
	case len(receipt.Runs) == 1:
		out.Link = "/runs/" + url.PathEscape(receipt.Runs[0].ID)
	case receipt.Run.ID != "":
		out.Link = "/runs/" + url.PathEscape(receipt.Run.ID)
	}
	return out
}
