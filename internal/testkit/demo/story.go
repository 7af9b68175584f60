package main

import (
	"os/exec"
	"strconv"
	"strings"
)

const storyText = `
Holdfast follows a git repository and keeps a cluster as it says.

  dashboard   http://{address}/
  repository  {repo}
  kubeconfig  {kubeconfig}
  log         {log}

In another terminal, in this folder:

  export KUBECONFIG={kubeconfig}
  export HOLDFAST_DATA_DIR={data}
  bin/holdfast status

Change something behind git's back, and see it healed and reported:

  kubectl -n shop-prod scale deployment web --replicas=1
  kubectl -n shop-prod edit configmap web
  kubectl -n tools delete cronjob nightly-report
  bin/holdfast drift
{nokubectl}
Change something in git, and see it applied within two seconds:

  git clone {repo} {clone}
  cd {clone}
  sed -i.bak 's/count: 3/count: 5/' overlays/prod/kustomization.yaml
  git commit -qam 'Five for the weekend' && git push
  kubectl -n shop-prod get deployment web

Break something in git, push it, and see which file and line it is, and that
nothing is lost:

  echo 'kind: [' >> plain/banner.yaml
  git commit -qam 'Oops' && git push
  bin/holdfast status tools          # from the first folder again

Do not wait for the next poll:

  bin/holdfast resync --wait
  kill -USR1 {pid}

Ctrl-C stops everything. The files stay in {dir}.
`

const noKubectl = `
(There is no kubectl on the PATH. Any version of the last two years will do; the
rest works without one, and the dashboard shows what is live.)
`

// story is what there is to try.
func (s *stage) story() string {
	missing := ""
	if _, err := exec.LookPath("kubectl"); err != nil {
		missing = noKubectl
	}
	return strings.NewReplacer(
		"{address}", s.daemon.Listen,
		"{repo}", s.repo.URL,
		"{kubeconfig}", s.cluster.Kubeconfig,
		"{data}", s.daemon.DataDir(),
		"{log}", s.daemon.LogFile,
		"{clone}", s.path("clone"),
		"{pid}", strconv.Itoa(s.daemon.PID()),
		"{dir}", s.dir,
		"{nokubectl}", missing,
	).Replace(storyText)
}
