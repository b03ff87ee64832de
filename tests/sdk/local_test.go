package sdk

import (
	"testing"

	"example.org/sdk/steeple"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestTheServersLogLevel(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := loggerv1.NewLoggerClient(server.Admin)
	level := func(current types.LogLevel) *types.Logger {
		return &types.Logger{CurrentLevel: current, LaunchLevel: types.LogLevel_INFO}
	}
	same(t, must[*types.Logger](t)(client.GetLogger(within(t), &loggerv1.GetLoggerRequest{})), level(types.LogLevel_INFO))
	same(t, must[*types.Logger](t)(client.SetLogLevel(within(t), &loggerv1.SetLogLevelRequest{NewLevel: types.LogLevel_DEBUG})), level(types.LogLevel_DEBUG))
	same(t, must[*types.Logger](t)(client.GetLogger(within(t), &loggerv1.GetLoggerRequest{})), level(types.LogLevel_DEBUG))
	_, err := client.SetLogLevel(within(t), &loggerv1.SetLogLevelRequest{})
	refused(t, err, codes.InvalidArgument, "")
	_, err = client.SetLogLevel(within(t), &loggerv1.SetLogLevelRequest{NewLevel: 99})
	refused(t, err, codes.InvalidArgument, "")
	same(t, must[*types.Logger](t)(client.ResetLogLevel(within(t), &loggerv1.ResetLogLevelRequest{})), level(types.LogLevel_INFO))
}

// SPIRE's scenario `debug-endpoints`, as far as the server goes.
func TestWhatTheServerSaysOfItself(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := debugv1.NewDebugClient(server.Admin)
	joined(t, server)
	federate(t, server, "b.test", "c.test")
	create(t, server, entry("/a", "uid:1"), entry("/b", "uid:2"), entry("/c", "uid:3"))
	for range 10 {
		info := must[*debugv1.GetInfoResponse](t)(client.GetInfo(within(t), &debugv1.GetInfoRequest{}))
		equal(t, "agents", info.AgentsCount, 1)
		equal(t, "entries", info.EntriesCount, 3)
		// With the server's own, as SPIRE counts them.
		equal(t, "bundles", info.FederatedBundlesCount, 3)
		if info.Uptime < 0 || info.Uptime > 600 {
			t.Errorf("uptime: %d", info.Uptime)
		}
		leaf := info.SvidChain[0]
		same(t, leaf.Id, spiffeID("/spire/server"))
		soon(t, "its own SVID", leaf.ExpiresAt, 3600)
		equal(t, "subject", leaf.Subject, "O=SPIRE,C=US")
	}
	for _, identity := range []*steeple.Identity{server.Mint("/a"), nil} {
		_, err := debugv1.NewDebugClient(server.Connect(identity)).GetInfo(within(t), &debugv1.GetInfoRequest{})
		refused(t, err, codes.Unimplemented, "")
	}
}

func TestTheServersHealth(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := grpc_health_v1.NewHealthClient(server.Admin)
	health := must[*grpc_health_v1.HealthCheckResponse](t)(client.Check(within(t), &grpc_health_v1.HealthCheckRequest{}))
	equal(t, "health", health.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	_, err := client.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: "x"})
	refused(t, err, codes.InvalidArgument, "per-service health is not supported")
	_, err = grpc_health_v1.NewHealthClient(server.Connect(nil)).Check(within(t), &grpc_health_v1.HealthCheckRequest{})
	refused(t, err, codes.Unimplemented, "")
}
