// Command demo boots the guide's server on this computer, installs the package, and shows all four programs at work.
// Each line says what happened and how long it took; the indented lines below it are real output. With -shell it opens
// a shell on the gateway instead. Nothing is left when it ends.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"tunnelcast/internal/e2e/box"
)

func main() {
	deb := flag.String("deb", "", "the package to install, as make deb leaves it in bin/")
	suite := flag.String("suite", cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm"),
		"the Debian release of the server: bookworm or trixie")
	shell := flag.Bool("shell", false, "open a shell on the gateway instead of showing the programs at work")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, *suite, *deb, *shell)
	switch {
	case err == nil:
	case ctx.Err() != nil: // the signal caused whatever error this is
		fmt.Fprintln(os.Stderr, "demo: interrupted; nothing is left of it")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, suite, deb string, shell bool) (err error) {
	if shell && !(term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))) {
		return errors.New("a shell needs a terminal as standard input and output; make demo needs none")
	}
	if err := box.Missing(); err != nil {
		return err
	}
	if _, err := os.Stat(deb); err != nil {
		return fmt.Errorf("find the package to install: %w", err)
	}
	start := time.Now()
	s := newScreen(os.Stdout)
	defer s.clear()

	s.chapter("The server, as the guide leaves it")
	b, err := box.Start(ctx, box.Options{Suite: suite, Step: s.begin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	s.end("first certificate from the ACME server; charon has its connection")

	story := &story{ctx: ctx, screen: s, box: b}
	if shell {
		return b.Explain(story.shell(deb))
	}
	if err := story.tell(deb); err != nil {
		return b.Explain(err)
	}

	s.chapter(fmt.Sprintf("That was all, in %.0f s. For a server of your own", time.Since(start).Seconds()))
	if !filepath.IsAbs(deb) {
		deb = "./" + filepath.Clean(deb)
	}
	s.show("", fmt.Sprintf(`sudo apt install %s
sudo tunnelcast-updown check        is this host ready? The other three have it too

It leaves your configuration as it is, and installs what these lines of the guide call:
  swanctl.conf   updown = /etc/swanctl/script/updown.sh iptables
  nginx.conf     exec_record_done /etc/nginx/conf.d/record_done.sh $path $filename $basename $dirname;
This demo's configuration is in /usr/share/doc/tunnelcast/examples.`, deb))
	return nil
}
