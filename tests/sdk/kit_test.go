// Package sdk drives Steeple with SPIRE's own client code, the module spire-api-sdk: every RPC of
// every service that it knows, each answer looked at field by field, and each message held against
// the published wire as it came.
package sdk

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/sdk/steeple"
	"example.org/sdk/tape"
	"example.org/sdk/wire"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

var (
	published *wire.Table
	// What the tests of each service hear.
	heard *tape.Tape
	// What those hear who try every call as somebody.
	tried *tape.Tape
	// Every tape there is.
	tapes []*tape.Tape
	lock  sync.Mutex
)

// record makes a tape of which nothing may be wrong in the end.
func record() *tape.Tape {
	lock.Lock()
	defer lock.Unlock()
	tapes = append(tapes, tape.New(published))
	return tapes[len(tapes)-1]
}

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if published, err = wire.Load("../../proto/tests/wire.txt"); err != nil {
		panic(err)
	}
	heard, tried = record(), record()
	exit := m.Run()
	var complaints []string
	for _, tape := range tapes {
		complaints = append(complaints, tape.Complaints()...)
	}
	// Which calls nobody made is known if all tests have run.
	if flag.Lookup("test.run").Value.String() == "" {
		complaints = append(complaints, undriven()...)
	}
	slices.Sort(complaints)
	for _, complaint := range slices.Compact(complaints) {
		fmt.Println("FAIL:", complaint)
		exit = 1
	}
	os.Exit(exit)
}

// methods are those of every service that the SDK knows, by path.
func methods() map[string]protoreflect.MethodDescriptor {
	found := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				if path := fmt.Sprintf("/%s/%s", service.FullName(), method.Name()); strings.HasPrefix(path, "/spire.") {
					found[path] = method
				}
			}
		}
		return true
	})
	return found
}

// undriven says which calls were not shown to work; or, where SPIRE does not serve one, to be none.
func undriven() []string {
	var complaints []string
	complain := func(path, what string) { complaints = append(complaints, path+" "+what) }
	known := methods()
	for path := range known {
		answers := heard.Answered(path)
		switch {
		case path == notYet:
			if answers[codes.Unimplemented] == 0 || answers[codes.NotFound] == 0 {
				complain(path, fmt.Sprint("tells what there is from what there is not: ", answers))
			}
		case !isServed(path) && answers[codes.OK] > 0:
			complain(path, "is answered, and SPIRE does not serve it")
		case !isServed(path) && answers[codes.Unimplemented] == 0:
			complain(path, "was not tried")
		case isServed(path) && answers[codes.OK] == 0:
			complain(path, fmt.Sprint("was never answered: ", answers))
		}
	}
	for path := range published.RPCs {
		if strings.HasPrefix(path, "/spire.") && known[path] == nil {
			complain(path, "is published, and not known to this SDK or not imported")
		}
	}
	return complaints
}

// notYet is the call that has nothing to do until the server fetches bundles by itself. It says so of a
// relationship that is there.
const notYet = "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle"

// isServed is whether SPIRE serves a call. It has those about WIT-SVIDs in name alone.
func isServed(path string) bool {
	return !strings.Contains(path, "WIT")
}

// within is how long a call may take.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), steeple.Patience)
	t.Cleanup(cancel)
	return ctx
}

// refused checks how a call failed, and what was said.
func refused(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("expected %v with %q, found %v", code, text, err)
	}
}

// denied checks that a call was denied, and the reason that goes with it.
func denied(t *testing.T, err error, reason types.PermissionDeniedDetails_Reason) {
	t.Helper()
	refused(t, err, codes.PermissionDenied, "")
	for _, detail := range status.Convert(err).Details() {
		if details, is := detail.(*types.PermissionDeniedDetails); is && details.Reason == reason {
			return
		}
	}
	t.Errorf("expected %v, found %v", reason, status.Convert(err).Details())
}

// item checks the status of one item of a batch.
func item(t *testing.T, found *types.Status, code codes.Code, text string) {
	t.Helper()
	if codes.Code(found.GetCode()) != code || !strings.Contains(found.GetMessage(), text) {
		t.Errorf("expected %v with %q, found %v", code, text, found)
	}
}

// same checks that a message is another.
func same(t *testing.T, found, expected proto.Message) {
	t.Helper()
	if !proto.Equal(found, expected) {
		t.Errorf("expected %v, found %v", expected, found)
	}
}

// equal checks that one value is another.
func equal[T comparable](t *testing.T, what string, found, expected T) {
	t.Helper()
	if found != expected {
		t.Errorf("%s: expected %v, found %v", what, expected, found)
	}
}

// must is the answer to a call that has to have one.
func must[T any](t *testing.T) func(T, error) T {
	return func(answer T, err error) T {
		t.Helper()
		steeple.Must(t, err)
		return answer
	}
}

// soon checks that something is in this many seconds, give or take a few.
func soon(t *testing.T, what string, at int64, seconds int64) {
	t.Helper()
	if left := at - time.Now().Unix(); left < seconds-30 || left > seconds+5 {
		t.Errorf("%s: expected in %d s, found in %d s", what, seconds, left)
	}
}

func spiffeID(path string) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: steeple.TrustDomain, Path: path}
}

func selector(kind, value string) *types.Selector {
	return &types.Selector{Type: kind, Value: value}
}

func paths[T any](items []T, path func(T) string) string {
	var all []string
	for _, item := range items {
		all = append(all, path(item))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
