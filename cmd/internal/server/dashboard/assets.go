package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
)

// htmx and uPlot are as their authors publish them, with their licences beside
// them; page.css and page.js are ours.
//
//go:embed templates static
var embedded embed.FS

// asset is a file that pages load. Its address names its content, so that it may
// be kept for good.
type asset struct {
	data  []byte
	media string
	id    string
}

// media are the types of what may be loaded.
var media = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".LICENSE": "text/plain; charset=utf-8",
}

func readAssets() map[string]asset {
	out := map[string]asset{}
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		data, err := fs.ReadFile(embedded, "static/"+e.Name())
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(data)
		out[e.Name()] = asset{data: data, media: media[path.Ext(e.Name())], id: hex.EncodeToString(sum[:6])}
	}
	return out
}

func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := d.files()[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.media)
	h.Set("Cache-Control", "public, max-age=300")
	if r.URL.Query().Get("v") == a.id {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Write(a.data) // an error means that the caller has gone
}

// address is where pages load an asset from.
func (d *Dashboard) address(name string) string {
	return "/assets/" + name + "?v=" + d.files()[name].id
}
