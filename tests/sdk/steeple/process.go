// Package steeple runs a server and an agent of a test's own, from the real binaries.
package steeple

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is the longest that anything is waited for.
const Patience = 180 * time.Second

// Process is one that runs until its test ends, and its log.
type Process struct {
	t       *testing.T
	command *exec.Cmd

	mutex   sync.Mutex
	changed *sync.Cond
	lines   []string
	ended   bool
}

// Binary is the path of one of the two.
func Binary(name string) string {
	return filepath.Join(os.Getenv("STEEPLE_BIN_DIR"), name)
}

// Start runs a program whose log is on its standard error.
func Start(t *testing.T, name string, arguments ...string) *Process {
	t.Helper()
	p := &Process{t: t, command: exec.Command(Binary(name), arguments...)}
	p.changed = sync.NewCond(&p.mutex)
	stderr, err := p.command.StderrPipe()
	Must(t, err)
	Must(t, p.command.Start())
	go p.read(bufio.NewScanner(stderr))
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- %s\n%s", name, strings.Join(p.Lines(), "\n"))
		}
	})
	return p
}

func (p *Process) read(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.add(lines.Text(), false)
	}
	p.add("", true)
}

func (p *Process) add(line string, ended bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.lines, p.ended = append(p.lines, line), ended
	p.changed.Broadcast()
}

// Lines is the log so far.
func (p *Process) Lines() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return append([]string{}, p.lines...)
}

// WaitFor is the first line of the log with this text in it, once there is one.
func (p *Process) WaitFor(text string) string {
	p.t.Helper()
	late := time.AfterFunc(Patience, func() { p.add("", true) })
	defer late.Stop()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for seen := 0; ; p.changed.Wait() {
		for ; seen < len(p.lines); seen++ {
			if strings.Contains(p.lines[seen], text) {
				return p.lines[seen]
			}
		}
		if p.ended {
			p.t.Fatalf("no %q in the log:\n%s", text, strings.Join(p.lines, "\n"))
		}
	}
}

// Kill ends it.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // it may have ended by itself
	_ = p.command.Wait()
}

// Must fails a test whose preparation failed.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
