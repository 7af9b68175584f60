package forge

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// commitID is what a link may lead to: a work tree with changes is on no host.
var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// Commit is the page of a commit; empty where there is none.
func (r Repo) Commit(id string) string {
	if !commitID.MatchString(id) {
		return ""
	}
	return r.commit(id)
}

func (r Repo) commit(id string) string {
	switch r.Kind {
	case GitHub, Gitea, AzureDevOps:
		return r.Page + "/commit/" + id
	case GitLab:
		return r.Page + "/-/commit/" + id
	case Bitbucket, BitbucketServer:
		return r.Page + "/commits/" + id
	}
	return ""
}

// File is the page of a file at a commit, at a line unless that is zero; empty
// where there is none.
func (r Repo) File(id, path string, line int) string {
	parts := segments(path)
	if !commitID.MatchString(id) || parts == nil || strings.HasPrefix(path, "/") {
		return ""
	}
	// What segments took away from the end of a repository's address belongs to
	// the name of a file.
	return r.file(id, join("", strings.Split(strings.Trim(path, "/"), "/")...), path, line, strconv.Itoa(line))
}

// file is the page of a file whose path is escaped, with a slash before it.
func (r Repo) file(id, escaped, path string, line int, number string) string {
	mark := func(form string) string {
		if line <= 0 {
			return ""
		}
		return form + number
	}
	switch r.Kind {
	case GitHub:
		return r.Page + "/blob/" + id + escaped + mark("#L")
	case GitLab:
		return r.Page + "/-/blob/" + id + escaped + mark("#L")
	case Gitea:
		return r.Page + "/src/commit/" + id + escaped + mark("#L")
	case Bitbucket:
		return r.Page + "/src/" + id + escaped + mark("#lines-")
	case BitbucketServer:
		return r.Page + "/browse" + escaped + "?at=" + id + mark("#")
	case AzureDevOps:
		out := r.Page + "?path=" + url.QueryEscape("/"+strings.Trim(path, "/")) + "&version=GC" + id
		if line > 0 {
			// A line ends at the first column of the next.
			out += mark("&line=") + "&lineEnd=" + strconv.Itoa(line+1) + "&lineStartColumn=1&lineEndColumn=1"
		}
		return out + "&_a=contents"
	}
	return ""
}

// Compare is the page of what lies between two commits; empty where there is none.
func (r Repo) Compare(from, to string) string {
	if !commitID.MatchString(from) || !commitID.MatchString(to) {
		return ""
	}
	switch r.Kind {
	case GitHub, Gitea:
		return r.Page + "/compare/" + from + "..." + to
	case GitLab:
		return r.Page + "/-/compare/" + from + "..." + to
	case Bitbucket:
		return r.Page + "/branches/compare/" + to + "%0D" + from + "#diff"
	case BitbucketServer:
		return r.Page + "/compare/diff?sourceBranch=" + to + "&targetBranch=" + from
	case AzureDevOps:
		return r.Page + "/branchCompare?baseVersion=GC" + from + "&targetVersion=GC" + to + "&_a=files"
	}
	return ""
}

// PullRequest is the page that asks for one branch to be merged into another,
// which may be empty for the repository's own; empty where there is none.
func (r Repo) PullRequest(branch, into string) string {
	if branch == "" || r.Kind == "" {
		return ""
	}
	q := url.QueryEscape
	switch r.Kind {
	case GitHub:
		if into == "" {
			return r.Page + "/compare/" + branchPath(branch) + "?expand=1"
		}
		return r.Page + "/compare/" + branchPath(into) + "..." + branchPath(branch) + "?expand=1"
	case Gitea:
		if into == "" {
			return r.Page + "/compare/" + branchPath(branch)
		}
		return r.Page + "/compare/" + branchPath(into) + "..." + branchPath(branch)
	case GitLab:
		out := r.Page + "/-/merge_requests/new?" + q("merge_request[source_branch]") + "=" + q(branch)
		if into != "" {
			out += "&" + q("merge_request[target_branch]") + "=" + q(into)
		}
		return out
	case Bitbucket:
		out := r.Page + "/pull-requests/new?source=" + q(branch)
		if into != "" {
			out += "&dest=" + q(into)
		}
		return out
	case BitbucketServer:
		out := r.Page + "/pull-requests?create&sourceBranch=" + q("refs/heads/"+branch)
		if into != "" {
			out += "&targetBranch=" + q("refs/heads/"+into)
		}
		return out
	case AzureDevOps:
		out := r.Page + "/pullrequestcreate?sourceRef=" + q(branch)
		if into != "" {
			out += "&targetRef=" + q(into)
		}
		return out
	}
	return ""
}

func branchPath(branch string) string {
	return strings.TrimPrefix(join("", strings.Split(branch, "/")...), "/")
}

// Templates are the addresses of a repository's pages, in which {commit}, {path}
// and {line} stand for what they are called.
type Templates struct {
	// Page is the repository's own.
	Page string `json:"page"`
	// Commit is that of a commit, File of a file at a line and a commit.
	Commit string `json:"commit"`
	File   string `json:"file"`
}

// Templates are the addresses of the repository's pages; nil where it has none.
func (r Repo) Templates() *Templates {
	if r.Kind == "" {
		return nil
	}
	file := r.file("{commit}", "/{path}", "", 1, "{line}")
	if r.Kind == AzureDevOps { // {line} again, for a range has two ends
		file = r.Page + "?path=/{path}&version=GC{commit}&line={line}&lineEnd={line}&lineStartColumn=1&lineEndColumn=1000&_a=contents"
	}
	return &Templates{Page: r.Page, Commit: r.commit("{commit}"), File: file}
}
