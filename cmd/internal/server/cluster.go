package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Cluster knows tokens of its own, and what their holders may do.
type Cluster interface {
	// Holder is who holds a token; false says that it is not known.
	Holder(ctx context.Context, token string) (ClusterUser, bool, error)
	// May reports whether somebody has the right to a verb on an environment, or on
	// all when it is empty.
	May(ctx context.Context, u ClusterUser, verb, environment string) (bool, error)
}

// ClusterUser is who holds a token, as a cluster says.
type ClusterUser struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// The bounds of what is kept of a cluster's answers. What it takes back counts
// after clusterKnown at the latest.
const (
	clusterKnown   = 30 * time.Second
	clusterUnknown = 10 * time.Second
	clusterTimeout = 10 * time.Second
	clusterAtOnce  = 4
	maxHolders     = 1000
	maxJWT         = 16 << 10
)

// clusterVerbs are the verbs that stand for roles.
var clusterVerbs = map[Role]string{RoleRead: "get", RoleOperate: "operate", RoleAdminister: "administer"}

// errCluster means that the cluster that knows tokens did not answer.
var errCluster = errors.New("the cluster that knows tokens cannot be asked")

// holders are what a cluster said of tokens, by their hashes.
type holders struct {
	cluster Cluster
	now     func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*holder
}

// holder is what is known of a token.
type holder struct {
	until time.Time
	known bool
	user  ClusterUser

	mu sync.Mutex
	// roles are those in environments that were asked for, by name; "" is all.
	roles map[string]Role
}

func newHolders(c Cluster, now func() time.Time) *holders {
	return &holders{cluster: c, now: now, all: map[[sha256.Size]byte]*holder{}}
}

// jwt reports whether a text looks like a token of a cluster. Anything else is not
// sent to it.
func jwt(text string) bool { return len(text) <= maxJWT && strings.Count(text, ".") == 2 }

// remembered is what is known of a token and still counts.
func (h *holders) remembered(token string) *holder {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.all[sha256.Sum256([]byte(token))]
	if one == nil || h.now().After(one.until) {
		return nil
	}
	return one
}

// whose is who holds a token.
func (h *holders) whose(ctx context.Context, token string) (*holder, error) {
	if one := h.remembered(token); one != nil {
		return one, nil
	}
	user, known, err := h.cluster.Holder(ctx, token)
	if err != nil {
		return nil, err
	}
	one := &holder{known: known, user: user, until: h.now().Add(clusterUnknown), roles: map[string]Role{}}
	if known {
		one.until = h.now().Add(clusterKnown)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.makeRoom()
	h.all[sha256.Sum256([]byte(token))] = one
	return one, nil
}

// makeRoom forgets what no longer counts, and all if that is not enough: the
// cluster is asked again.
func (h *holders) makeRoom() {
	if len(h.all) < maxHolders {
		return
	}
	now := h.now()
	for key, one := range h.all {
		if now.After(one.until) {
			delete(h.all, key)
		}
	}
	if len(h.all) >= maxHolders {
		clear(h.all)
	}
}

// role is the most that a holder may do in an environment, or in all when it is
// empty; at is what is known already. Each role needs the lesser ones' verbs.
func (h *holders) role(ctx context.Context, one *holder, environment string, at, most Role) (Role, error) {
	one.mu.Lock()
	known, ok := one.roles[environment]
	one.mu.Unlock()
	if ok {
		return known, nil
	}
	for at < most {
		may, err := h.cluster.May(ctx, one.user, clusterVerbs[at+1], environment)
		if err != nil {
			return RoleNone, err
		}
		if !may {
			break
		}
		at++
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.roles[environment] = at
	return at, nil
}

// grants are what a holder may do: everywhere, and beyond that in each of the
// environments. To administer is about no single one.
func (h *holders) grants(ctx context.Context, one *holder, environments []string) ([]Grant, error) {
	everywhere, err := h.role(ctx, one, "", RoleNone, RoleAdminister)
	if err != nil {
		return nil, err
	}
	var out []Grant
	if everywhere > RoleNone {
		out = append(out, Grant{Role: everywhere})
	}
	if everywhere >= RoleOperate {
		return out, nil
	}
	roles := make([]Role, len(environments))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clusterAtOnce)
	for i, name := range environments {
		group.Go(func() (err error) {
			roles[i], err = h.role(ctx, one, name, everywhere, RoleOperate)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	in := map[Role][]string{}
	for i, role := range roles {
		if role > everywhere {
			in[role] = append(in[role], environments[i])
		}
	}
	for _, role := range []Role{RoleRead, RoleOperate} {
		if len(in[role]) > 0 {
			out = append(out, Grant{Role: role, Environments: in[role]})
		}
	}
	return out, nil
}

// clusterCaller is who calls with a token of the cluster.
func (s *Server) clusterCaller(ctx context.Context, token string) (caller, error) {
	if s.holders == nil || !jwt(token) {
		return caller{}, errNoToken
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	one, err := s.holders.whose(ctx, token)
	if err == nil && !one.known {
		return caller{}, errNoToken
	}
	who := caller{how: "the account", readsAll: !s.opts.ReadsNeedToken}
	if err == nil {
		who.name = actorName(one.user.Name)
		var names []string
		for _, e := range s.opts.Engine.Environments() {
			names = append(names, e.Name)
		}
		who.grants, err = s.holders.grants(ctx, one, names)
	}
	if err != nil && !errors.Is(err, context.Canceled) { // who has gone needs no answer
		s.opts.Logger.Error().Err(err).Msg("cluster cannot be asked about a token")
	}
	if err != nil {
		return caller{}, fmt.Errorf("%w: %w", errCluster, err)
	}
	return who, nil
}

// guessing refuses an address that had too many wrong tokens before the cluster is
// asked about one more, and reports whether it did.
func (s *Server) guessing(w http.ResponseWriter, r *http.Request) bool {
	if s.holders == nil {
		return false
	}
	given := givenToken(r)
	if !jwt(given) || s.holders.remembered(given) != nil || s.limits.has(clientAddress(r)) {
		return false
	}
	return s.limited(w, r, caller{})
}
