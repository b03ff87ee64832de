package sdk

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/sdk/steeple"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/debug/v1"
	delegatedv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/logger/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const adminSocket = `admin_socket_path = "DIR/admin/admin.sock"`

// delegation is an agent with entries for this process, and for another that there need not be.
type delegation struct {
	server *steeple.Server
	agent  *steeple.Agent
	conn   *grpc.ClientConn
	// Selectors of the other.
	other []*types.Selector
}

func delegate(t *testing.T, config ...string) delegation {
	t.Helper()
	server := steeple.Serve(t, heard)
	federate(t, server, "b.test")
	agent := server.Join(append([]string{adminSocket}, config...)...)
	self, other := entry("/delegate", fmt.Sprintf("uid:%d", os.Getuid())), entry("/other", "uid:4294967294")
	self.ParentId, other.ParentId = agent.ID, agent.ID
	other.FederatesWith, other.Hint = []string{"b.test"}, "there"
	create(t, server, self, other)
	// It has heard of its entries once it serves one of them.
	for deadline := time.Now().Add(steeple.Patience); ; time.Sleep(50 * time.Millisecond) {
		if said, err := agent.Run("api", "fetch", "x509"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(said)
		}
	}
	return delegation{server, agent, steeple.Dial(t, heard, agent.Path("admin/admin.sock")), other.Selectors}
}

const delegates = `authorized_delegates = ["spiffe://example.org/delegate"]`

// SPIRE's scenario `delegatedidentity`: who is a delegate.
func TestADelegateHasTheIdentitiesOfOthers(t *testing.T) {
	t.Parallel()
	d := delegate(t, delegates)
	client := delegatedv1.NewDelegatedIdentityClient(d.conn)

	svids := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509SVIDsResponse]](t)(
		client.SubscribeToX509SVIDs(within(t), &delegatedv1.SubscribeToX509SVIDsRequest{Selectors: d.other}))
	first := must[*delegatedv1.SubscribeToX509SVIDsResponse](t)(svids.Recv())
	equal(t, "SVIDs", len(first.X509Svids), 1)
	equal(t, "federates with", strings.Join(first.FederatesWith, " "), "spiffe://b.test")
	key := must[any](t)(x509.ParsePKCS8PrivateKey(first.X509Svids[0].X509SvidKey))
	checkSVID(t, d.server, first.X509Svids[0].X509Svid, "/other", key.(crypto.Signer), 3600)
	equal(t, "hint", first.X509Svids[0].X509Svid.Hint, "there")

	pid := int32(os.Getpid())
	mine := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509SVIDsResponse]](t)(
		client.SubscribeToX509SVIDs(within(t), &delegatedv1.SubscribeToX509SVIDsRequest{Pid: pid}))
	same(t, must[*delegatedv1.SubscribeToX509SVIDsResponse](t)(mine.Recv()).X509Svids[0].X509Svid.Id, spiffeID("/delegate"))
	nobody := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509SVIDsResponse]](t)(client.SubscribeToX509SVIDs(within(t),
		&delegatedv1.SubscribeToX509SVIDsRequest{Selectors: []*types.Selector{selector("unix", "uid:4294967293")}}))
	equal(t, "SVIDs of nobody", len(must[*delegatedv1.SubscribeToX509SVIDsResponse](t)(nobody.Recv()).X509Svids), 0)
	for _, request := range []*delegatedv1.SubscribeToX509SVIDsRequest{{}, {Pid: pid, Selectors: d.other}} {
		stream := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509SVIDsResponse]](t)(client.SubscribeToX509SVIDs(within(t), request))
		_, err := stream.Recv()
		refused(t, err, codes.InvalidArgument, "")
	}

	bundles := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509BundlesResponse]](t)(
		client.SubscribeToX509Bundles(within(t), &delegatedv1.SubscribeToX509BundlesRequest{}))
	authorities := must[*delegatedv1.SubscribeToX509BundlesResponse](t)(bundles.Recv()).CaCertificates
	equal(t, "bundles", len(authorities), 2)
	own := must[[]*x509.Certificate](t)(x509.ParseCertificates(authorities[steeple.ID("")]))
	equal(t, "own authority", own[0].Equal(d.server.Roots()[0]), true)
	foreign := must[[]*x509.Certificate](t)(x509.ParseCertificates(authorities["spiffe://b.test"]))
	equal(t, "foreign authority", foreign[0].URIs[0].String(), "spiffe://b.test")

	tokens := must[*delegatedv1.FetchJWTSVIDsResponse](t)(
		client.FetchJWTSVIDs(within(t), &delegatedv1.FetchJWTSVIDsRequest{Audience: []string{"a"}, Selectors: d.other}))
	equal(t, "tokens", len(tokens.Svids), 1)
	checkToken(t, d.server, tokens.Svids[0], "/other", 300, "a")
	equal(t, "hint", tokens.Svids[0].Hint, "there")
	_, err := client.FetchJWTSVIDs(within(t), &delegatedv1.FetchJWTSVIDsRequest{Selectors: d.other})
	refused(t, err, codes.InvalidArgument, "audience")
	_, err = client.FetchJWTSVIDs(within(t), &delegatedv1.FetchJWTSVIDsRequest{Audience: []string{"a"},
		Selectors: []*types.Selector{selector("unix", "uid:4294967293")}})
	refused(t, err, codes.PermissionDenied, "no identity issued")

	sets := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToJWTBundlesResponse]](t)(
		client.SubscribeToJWTBundles(within(t), &delegatedv1.SubscribeToJWTBundlesRequest{}))
	documents := must[*delegatedv1.SubscribeToJWTBundlesResponse](t)(sets.Recv()).Bundles
	equal(t, "JWT bundles", len(documents), 2)
	var document struct{ Keys []map[string]any }
	steeple.Must(t, json.Unmarshal(documents["spiffe://b.test"], &document))
	equal(t, "key", document.Keys[0]["kid"].(string), "key-of-b.test")
}

// SPIRE's scenario `delegatedidentity`: who is none.
func TestWhoIsNoDelegateHasNothing(t *testing.T) {
	t.Parallel()
	d := delegate(t, `authorized_delegates = ["spiffe://example.org/somebody-else"]`)
	client := delegatedv1.NewDelegatedIdentityClient(d.conn)
	const why = "caller not configured as an authorized delegate"
	svids := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509SVIDsResponse]](t)(
		client.SubscribeToX509SVIDs(within(t), &delegatedv1.SubscribeToX509SVIDsRequest{Selectors: d.other}))
	_, err := svids.Recv()
	refused(t, err, codes.PermissionDenied, why)
	bundles := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToX509BundlesResponse]](t)(
		client.SubscribeToX509Bundles(within(t), &delegatedv1.SubscribeToX509BundlesRequest{}))
	_, err = bundles.Recv()
	refused(t, err, codes.PermissionDenied, why)
	sets := must[grpc.ServerStreamingClient[delegatedv1.SubscribeToJWTBundlesResponse]](t)(
		client.SubscribeToJWTBundles(within(t), &delegatedv1.SubscribeToJWTBundlesRequest{}))
	_, err = sets.Recv()
	refused(t, err, codes.PermissionDenied, why)
	_, err = client.FetchJWTSVIDs(within(t), &delegatedv1.FetchJWTSVIDsRequest{Audience: []string{"a"}, Selectors: d.other})
	refused(t, err, codes.PermissionDenied, why)
}

// SPIRE's scenario `debug-endpoints`, as far as the agent goes.
func TestWhatTheAgentSaysOfItself(t *testing.T) {
	t.Parallel()
	d := delegate(t)
	info := must[*debugv1.GetInfoResponse](t)(debugv1.NewDebugClient(d.conn).GetInfo(within(t), &debugv1.GetInfoRequest{}))
	same(t, info.SvidChain[0].Id, d.agent.ID)
	soon(t, "its own SVID", info.SvidChain[0].ExpiresAt, 4*3600)
	equal(t, "subject", info.SvidChain[0].Subject, "O=SPIRE,C=US")
	soon(t, "last sync", info.LastSyncSuccess, 0)

	client := loggerv1.NewLoggerClient(d.conn)
	level := func(current types.LogLevel) *types.Logger {
		return &types.Logger{CurrentLevel: current, LaunchLevel: types.LogLevel_INFO}
	}
	same(t, must[*types.Logger](t)(client.GetLogger(within(t), &loggerv1.GetLoggerRequest{})), level(types.LogLevel_INFO))
	same(t, must[*types.Logger](t)(client.SetLogLevel(within(t), &loggerv1.SetLogLevelRequest{NewLevel: types.LogLevel_WARN})), level(types.LogLevel_WARN))
	_, err := client.SetLogLevel(within(t), &loggerv1.SetLogLevelRequest{})
	refused(t, err, codes.InvalidArgument, "")
	same(t, must[*types.Logger](t)(client.ResetLogLevel(within(t), &loggerv1.ResetLogLevelRequest{})), level(types.LogLevel_INFO))

	// None of this is on the socket of workloads.
	workload := steeple.Dial(t, heard, d.agent.Path("run/api.sock"))
	headed := metadata.AppendToOutgoingContext(within(t), "workload.spiffe.io", "true")
	_, err = debugv1.NewDebugClient(workload).GetInfo(headed, &debugv1.GetInfoRequest{})
	refused(t, err, codes.Unimplemented, "")
	_, err = loggerv1.NewLoggerClient(workload).GetLogger(headed, &loggerv1.GetLoggerRequest{})
	refused(t, err, codes.Unimplemented, "")
}
