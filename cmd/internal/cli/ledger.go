package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/daemon"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ledger", Short: "Check, back up or restore the record of runs and drift",
		Long: `The ledger is the file ledger.db in the data directory: earlier runs, drift and
what people asked for. It is history only: without it, Holdfast does its work.
` + exitHelp,
		Example: "  holdfast ledger check\n  holdfast ledger backup ledger-monday.db\n  holdfast ledger restore ledger-monday.db",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.ledgerCheck(), a.ledgerBackup(), a.ledgerRestore())
	return c
}

func (a *app) ledgerCheck() *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Look for damage, and say what is on record",
		Long: `Look for damage, and say what is on record. A daemon that runs is asked; without
one, the file in the data directory is looked into.

Ends with 1 when the file is damaged. A damaged file is set aside by the daemon
when it starts or notices; nothing else depends on it.
` + connectHelp + exitHelp,
		Example: "  holdfast ledger check\n  holdfast ledger check --data-dir /var/lib/holdfast -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			var report ledger.Report
			err := a.online(func(client *api.Client) (err error) {
				report, err = client.CheckLedger(c.Context())
				return err
			}, func(path string) (err error) {
				report, err = ledger.CheckFile(c.Context(), path)
				return err
			})
			if err != nil {
				return err
			}
			if err := a.print(report, func(w io.Writer) { ledgerReport(w, report) }); err != nil {
				return failed(err)
			}
			if report.Damage != "" {
				return exit(exitError)
			}
			return nil
		},
	}
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func ledgerReport(w io.Writer, r ledger.Report) {
	fmt.Fprintf(w, "%-10s %s\n%-10s %d\n", "file", printable(r.File), "bytes", r.Bytes)
	if r.Damage != "" {
		fmt.Fprintf(w, "%-10s %s\n", "damage", printable(r.Damage))
	} else {
		fmt.Fprintf(w, "%-10s none\n%-10s %d\n%-10s %d\n%-10s %d\n%-10s %d\n%-10s %s\n", "damage", "schema", r.Schema,
			"runs", r.Runs, "episodes", r.Episodes, "actions", r.Actions, "oldest", moment(r.Oldest))
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "%-10s %s to %s: %d runs and %d episodes are missing\n", "gap", moment(g.Since), moment(g.Until), g.Runs, g.Episodes)
	}
	for _, f := range r.Aside {
		fmt.Fprintf(w, "%-10s %s\n", "set aside", printable(f))
	}
}

// online asks the daemon, and if none answers where it would by default, does the
// work on the file itself, with the data directory locked.
func (a *app) online(ask func(*api.Client) error, offline func(path string) error) error {
	client, err := a.connect()
	if err != nil {
		return err
	}
	err = ask(client)
	remote := a.server != "" || a.dataDir == "" && a.env("HOLDFAST_SERVER") != ""
	if err == nil || remote || !errors.As(err, new(api.Unreachable)) {
		return wrapped(err)
	}
	return a.offline(offline)
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return failed(err)
}

// offline works on the ledger of a data directory that no daemon uses.
func (a *app) offline(work func(path string) error) error {
	dir, err := filepath.Abs(cmp.Or(a.dataDir, config.DefaultDataDir()))
	if err != nil {
		return failed(fmt.Errorf("find the data directory: %w", err))
	}
	if _, err := os.Stat(dir); err != nil {
		return failed(advised{fmt.Errorf("look at the data directory: %w", err), "say where it is with --data-dir"})
	}
	lock, err := daemon.LockDir(dir)
	if err != nil {
		return failed(err)
	}
	defer lock.Close()
	return wrapped(work(filepath.Join(dir, ledger.FileName)))
}

// advised is an error with what to do about it.
type advised struct {
	error
	hint string
}

// Advice is the hint.
func (a advised) Advice() string { return a.hint }

// Unwrap is the error.
func (a advised) Unwrap() error { return a.error }

func (a *app) ledgerBackup() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Copy the ledger to a file",
		Long: `Copy the ledger to a file that does not exist yet. A daemon that runs is asked for
it and goes on meanwhile; without one, the file in the data directory is copied.
The copy is checked before it gets its name.
` + connectHelp + exitHelp,
		Example: "  holdfast ledger backup ledger-monday.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return invalid(usage{fmt.Sprintf("%s exists, and is not replaced", args[0]), "name a file that does not exist"})
			} else if !errors.Is(err, fs.ErrNotExist) {
				return failed(err)
			}
			return a.backupTo(c.Context(), args[0])
		},
	}
	a.addConnect(c)
	return c
}

// backupTo makes the copy in a folder beside its place, so that a file of that
// name is always whole.
func (a *app) backupTo(ctx context.Context, to string) error {
	dir, err := os.MkdirTemp(filepath.Dir(to), ".holdfast-backup-")
	if err != nil {
		return failed(fmt.Errorf("back up the ledger: %w", err))
	}
	defer os.RemoveAll(dir)
	part := filepath.Join(dir, ledger.FileName)
	err = a.online(func(client *api.Client) error {
		f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		err = errors.Join(client.BackupLedger(ctx, f), f.Sync(), f.Close())
		if err != nil {
			os.Remove(part) // the way without a daemon begins anew
		}
		return err
	}, func(path string) error { return ledger.BackupFile(ctx, path, part) })
	if err != nil {
		return err
	}
	report, err := ledger.CheckFile(ctx, part)
	if err == nil && report.Damage != "" {
		err = errors.New("the copy is not sound: " + report.Damage)
	}
	if err == nil {
		// A link, unlike a rename, replaces nothing that came meanwhile.
		err = os.Link(part, to)
	}
	if err != nil {
		return failed(fmt.Errorf("back up the ledger: %w", err))
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %d runs, %d episodes, %d actions\n", to, report.Runs, report.Episodes, report.Actions)
	return wrapped(err)
}

func (a *app) ledgerRestore() *cobra.Command {
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in the ledger's place",
		Long: `Put a backup in the ledger's place. The daemon must not be running. What was there
is kept beside it, under a name that says so.
` + exitHelp,
		Example: "  holdfast ledger restore ledger-monday.db --data-dir /var/lib/holdfast",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.offline(func(path string) error {
				kept, err := ledger.Restore(c.Context(), args[0], path)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "restored %s\n", path)
				if kept != "" {
					fmt.Fprintf(a.stdout, "what was there is %s\n", kept)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&a.dataDir, "data-dir", "", "data directory of the daemon")
	return c
}
