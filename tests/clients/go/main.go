// A workload that uses go-spiffe. What it is told and what it prints is said in ../README.md.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type fields map[string]any

var printing sync.Mutex

func main() {
	commands := map[string]func([]string){
		"fetch": func(arguments []string) { fetch(arguments[0]) },
		"watch": func(arguments []string) { watch(arguments[0]) },
		"serve": func(arguments []string) { serve(arguments[0]) },
		"dial":  func(arguments []string) { dial(arguments[0], arguments[1]) },
	}
	commands[os.Args[1]](os.Args[2:])
	say("closed", fields{})
}

func fetch(audience string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := newClient(ctx)
	defer client.Close()
	if x509Context, ok := try("x509", client.FetchX509Context)(ctx); ok {
		sayX509(x509Context)
	}
	if bundles, ok := try("x509_bundles", client.FetchX509Bundles)(ctx); ok {
		say("x509_bundles", fields{"bundles": x509Bundles(bundles)})
	}
	if bundles, ok := try("jwt_bundles", client.FetchJWTBundles)(ctx); ok {
		say("jwt_bundles", fields{"bundles": jwtBundles(bundles)})
	}
	svids, _ := try("jwt", func(ctx context.Context) ([]*jwtsvid.SVID, error) {
		return client.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: audience})
	})(ctx)
	for _, svid := range svids {
		sayJWT(ctx, client, svid, audience)
		try("validate", func(ctx context.Context) (*jwtsvid.SVID, error) {
			return client.ValidateJWTSVID(ctx, svid.Marshal(), audience+"-of-another")
		})(ctx)
	}
}

func watch(audience string) {
	ctx, cancel := context.WithCancel(context.Background())
	client := newClient(ctx)
	var watches sync.WaitGroup
	watches.Add(2)
	go func() { defer watches.Done(); ended(client.WatchX509Context(ctx, watcher{ctx})) }()
	go func() { defer watches.Done(); ended(client.WatchJWTBundles(ctx, watcher{ctx})) }()
	// Each line is a wish for a token, to be checked with bundles that are as new as it is.
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		svid, ok := try("jwt", func(ctx context.Context) (*jwtsvid.SVID, error) {
			return client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
		})(ctx)
		if ok {
			sayJWT(ctx, client, svid, audience)
		}
	}
	cancel()
	watches.Wait()
	client.Close()
}

func newClient(ctx context.Context) *workloadapi.Client {
	client, err := workloadapi.New(ctx)
	if err != nil {
		panic(err)
	}
	return client
}

// Says of a call that failed with which code it did.
func try[T any](call string, function func(context.Context) (T, error)) func(context.Context) (T, bool) {
	return func(ctx context.Context) (T, bool) {
		result, err := function(ctx)
		if err != nil {
			say("failed", fields{"call": call, "code": code(err)})
		}
		return result, err == nil
	}
}

// Says what is in a token, checked by go-spiffe itself and by the agent.
func sayJWT(ctx context.Context, client *workloadapi.Client, svid *jwtsvid.SVID, audience string) {
	bundles, ok := try("jwt_bundles", client.FetchJWTBundles)(ctx)
	if !ok {
		return
	}
	token := svid.Marshal()
	locally, err := jwtsvid.ParseAndValidate(token, bundles, []string{audience})
	if err != nil {
		say("failed", fields{"call": "locally", "code": err.Error()})
		return
	}
	byAgent, err := client.ValidateJWTSVID(ctx, token, audience)
	if err != nil {
		say("failed", fields{"call": "by_agent", "code": code(err)})
		return
	}
	say("jwt", fields{
		"id": svid.ID.String(), "token": token,
		"locally": locally.ID.String(), "by_agent": byAgent.ID.String(),
	})
}

type watcher struct{ ctx context.Context }

func (watcher) OnX509ContextUpdate(x509Context *workloadapi.X509Context) { sayX509(x509Context) }

func (w watcher) OnX509ContextWatchError(err error) { w.lost(err) }

func (watcher) OnJWTBundlesUpdate(bundles *jwtbundle.Set) {
	say("jwt_bundles", fields{"bundles": jwtBundles(bundles)})
}

func (w watcher) OnJWTBundlesWatchError(err error) { w.lost(err) }

func (w watcher) lost(err error) {
	if w.ctx.Err() != nil {
		return
	}
	final := status.Code(err) == codes.Canceled || status.Code(err) == codes.InvalidArgument
	say("lost", fields{"code": code(err), "retries": !final})
}

func ended(err error) {
	if err != nil && !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
		say("ended", fields{"error": err.Error()})
	}
}

func sayX509(x509Context *workloadapi.X509Context) {
	svids := []fields{}
	for _, svid := range x509Context.SVIDs {
		svids = append(svids, fields{"id": svid.ID.String(), "chain": raw(svid.Certificates)})
	}
	say("x509", fields{"svids": svids, "bundles": x509Bundles(x509Context.Bundles)})
}

func x509Bundles(bundles *x509bundle.Set) map[string][][]byte {
	result := map[string][][]byte{}
	for _, bundle := range bundles.Bundles() {
		result[bundle.TrustDomain().Name()] = raw(bundle.X509Authorities())
	}
	return result
}

func jwtBundles(bundles *jwtbundle.Set) map[string][]string {
	result := map[string][]string{}
	for _, bundle := range bundles.Bundles() {
		ids := []string{}
		for id := range bundle.JWTAuthorities() {
			ids = append(ids, id)
		}
		sort.Strings(ids)
		result[bundle.TrustDomain().Name()] = ids
	}
	return result
}

func raw(certificates []*x509.Certificate) [][]byte {
	result := [][]byte{}
	for _, certificate := range certificates {
		result = append(result, certificate.Raw)
	}
	return result
}

// The code as the standard spells it: PERMISSION_DENIED.
func code(err error) string {
	var name strings.Builder
	for i, letter := range status.Code(err).String() {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

func say(event string, more fields) {
	more["event"] = event
	line, err := json.Marshal(more)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	os.Stdout.Write(append(line, '\n'))
}
