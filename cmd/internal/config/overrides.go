package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Overrides are what the command line says over the file. An empty field leaves
// what the file says.
type Overrides struct {
	Listen           string
	AllowNonLoopback bool
	DataDir          string
	LogLevel         string
	LogFormat        string
	// TokenFile replaces server.tokenFile.
	TokenFile string
	// ResyncFile replaces resyncFile.
	ResyncFile string
	// Kubeconfig and Context apply to the targets that name neither.
	Kubeconfig, Context string
}

// With is the configuration with the overrides, validated again.
func (c Config) With(o Overrides) (Config, error) {
	c.AllowNonLoopback = c.AllowNonLoopback || o.AllowNonLoopback
	var problems sources.Problems
	if o.Listen != "" {
		c.Listen = o.Listen
		if message, hint := checkListen(c.Listen, c.AllowNonLoopback); message != "" {
			hint = strings.ReplaceAll(hint, "allowNonLoopback: true", "--allow-non-loopback")
			problems = append(problems, sources.Problem{Message: "--" + message, Hint: hint})
		}
	}
	problems = append(problems, override(&c.Log.Level, o.LogLevel, "--log-level", logLevels)...)
	problems = append(problems, override(&c.Log.Format, o.LogFormat, "--log-format", logFormats)...)
	var err error
	if o.DataDir != "" {
		if c.DataDir, err = filepath.Abs(o.DataDir); err != nil {
			return Config{}, fmt.Errorf("find %s: %w", o.DataDir, err)
		}
	}
	if o.TokenFile != "" {
		if c.Server.TokenFile, err = filepath.Abs(o.TokenFile); err != nil {
			return Config{}, fmt.Errorf("find %s: %w", o.TokenFile, err)
		}
	}
	if o.ResyncFile != "" {
		if c.ResyncFile, err = filepath.Abs(o.ResyncFile); err != nil {
			return Config{}, fmt.Errorf("find %s: %w", o.ResyncFile, err)
		}
	}
	if c.Targets, err = o.targets(c.Targets); err != nil {
		return Config{}, err
	}
	return c, problems.Err()
}

func override(value *string, by, flag string, words []string) sources.Problems {
	if by == "" {
		return nil
	}
	if !slices.Contains(words, by) {
		return sources.Problems{{
			Message: fmt.Sprintf("%s %q is not known", flag, by), Hint: "allowed are " + strings.Join(words, ", "),
		}}
	}
	*value = by
	return nil
}

func (o Overrides) targets(targets []Target) ([]Target, error) {
	out := slices.Clone(targets)
	for i := range out {
		if out[i].Kubeconfig != "" || out[i].Context != "" || out[i].Directory != "" {
			continue
		}
		out[i].Context = o.Context
		if o.Kubeconfig == "" {
			continue
		}
		abs, err := filepath.Abs(o.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", o.Kubeconfig, err)
		}
		out[i].Kubeconfig = abs
	}
	return out, nil
}
