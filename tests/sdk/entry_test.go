package sdk

import (
	"fmt"
	"slices"
	"testing"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// entry is one with no more than it needs.
func entry(path, value string) *types.Entry {
	return &types.Entry{
		SpiffeId:  spiffeID(path),
		ParentId:  spiffeID("/spire/agent/x"),
		Selectors: []*types.Selector{selector("unix", value)},
	}
}

func create(t *testing.T, server *steeple.Server, entries ...*types.Entry) []*types.Entry {
	t.Helper()
	client := entryv1.NewEntryClient(server.Admin)
	answer := must[*entryv1.BatchCreateEntryResponse](t)(
		client.BatchCreateEntry(within(t), &entryv1.BatchCreateEntryRequest{Entries: entries}))
	var created []*types.Entry
	for _, result := range answer.Results {
		item(t, result.Status, codes.OK, "")
		created = append(created, result.Entry)
	}
	return created
}

// federate gives a server the bundle of another trust domain.
func federate(t *testing.T, server *steeple.Server, names ...string) {
	t.Helper()
	request := &bundlev1.BatchSetFederatedBundleRequest{}
	for _, name := range names {
		request.Bundle = append(request.Bundle, foreignBundle(t, name))
	}
	answer := must[*bundlev1.BatchSetFederatedBundleResponse](t)(
		bundlev1.NewBundleClient(server.Admin).BatchSetFederatedBundle(within(t), request))
	for _, result := range answer.Results {
		item(t, result.Status, codes.OK, "")
	}
}

func TestEntriesAreCreatedOneByOne(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := entryv1.NewEntryClient(server.Admin)
	federate(t, server, "b.test")
	whole := &types.Entry{
		Id:            "chosen",
		SpiffeId:      spiffeID("/whole"),
		ParentId:      spiffeID("/spire/agent/x"),
		Selectors:     []*types.Selector{selector("unix", "uid:1"), selector("unix", "gid:2")},
		X509SvidTtl:   60,
		JwtSvidTtl:    30,
		FederatesWith: []string{"b.test"},
		Admin:         true,
		Downstream:    true,
		ExpiresAt:     4102444800,
		DnsNames:      []string{"web.example.org", "*.example.org"},
		Hint:          "internal",
		AdditionalAttributes: &types.Entry_AdditionalAttributes{
			DisableX509SvidPrefetch: true, JwtSvidIncludeJti: true,
		},
	}
	with := func(change func(*types.Entry)) *types.Entry {
		changed := entry("/changed", "uid:7")
		change(changed)
		return changed
	}
	rows := []struct {
		entry *types.Entry
		code  codes.Code
		text  string
	}{
		{whole, codes.OK, "OK"},
		{entry("/plain", "uid:3"), codes.OK, "OK"},
		{entry("/plain", "uid:3"), codes.AlreadyExists, "similar entry already exists"},
		{with(func(e *types.Entry) { e.SpiffeId = nil }), codes.InvalidArgument, "spiffe_id"},
		{with(func(e *types.Entry) { e.SpiffeId.TrustDomain = "b.test" }), codes.InvalidArgument, "SPIFFE ID"},
		{with(func(e *types.Entry) { e.SpiffeId.Path = "/spire/agent/x" }), codes.InvalidArgument, ""},
		{with(func(e *types.Entry) { e.ParentId = nil }), codes.InvalidArgument, "parent_id"},
		{with(func(e *types.Entry) { e.Selectors = nil }), codes.InvalidArgument, "selector"},
		{with(func(e *types.Entry) { e.Selectors[0].Type = "a:b" }), codes.InvalidArgument, "selector"},
		{with(func(e *types.Entry) { e.X509SvidTtl = -1 }), codes.InvalidArgument, "x509_svid_ttl"},
		{with(func(e *types.Entry) { e.JwtSvidTtl = -1 }), codes.InvalidArgument, "jwt_svid_ttl"},
		{with(func(e *types.Entry) { e.DnsNames = []string{"a b"} }), codes.InvalidArgument, "DNS names"},
		{with(func(e *types.Entry) { e.FederatesWith = []string{"c.test"} }), codes.FailedPrecondition, "unable to find federated bundle"},
		{with(func(e *types.Entry) { e.Id = "a/b" }), codes.InvalidArgument, "entry ID"},
		{with(func(e *types.Entry) { e.Id = "chosen" }), codes.AlreadyExists, ""},
	}
	request := &entryv1.BatchCreateEntryRequest{}
	for _, row := range rows {
		request.Entries = append(request.Entries, row.entry)
	}
	answer := must[*entryv1.BatchCreateEntryResponse](t)(client.BatchCreateEntry(within(t), request))
	equal(t, "results", len(answer.Results), len(rows))
	for i, row := range rows {
		item(t, answer.Results[i].Status, row.code, row.text)
	}
	created := answer.Results[0].Entry
	soon(t, "created", created.CreatedAt, 0)
	expected := proto.Clone(whole).(*types.Entry)
	expected.CreatedAt = created.CreatedAt
	byText := func(a, b *types.Selector) int { return int(b.Value[0]) - int(a.Value[0]) }
	slices.SortFunc(created.Selectors, byText)
	same(t, created, expected)
	// What is there already is shown with what it is.
	same(t, answer.Results[2].Entry, answer.Results[1].Entry)

	shown := must[*types.Entry](t)(client.GetEntry(within(t), &entryv1.GetEntryRequest{Id: "chosen"}))
	slices.SortFunc(shown.Selectors, byText)
	same(t, shown, expected)
	shown = must[*types.Entry](t)(client.GetEntry(within(t), &entryv1.GetEntryRequest{Id: "chosen", OutputMask: &types.EntryMask{Hint: true}}))
	same(t, shown, &types.Entry{Id: "chosen", Hint: "internal"})
	_, err := client.GetEntry(within(t), &entryv1.GetEntryRequest{})
	refused(t, err, codes.InvalidArgument, "missing")
	_, err = client.GetEntry(within(t), &entryv1.GetEntryRequest{Id: "none"})
	refused(t, err, codes.NotFound, "entry not found")
}

func TestOneBadEntryInFiveHundredSpoilsNoOther(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := entryv1.NewEntryClient(server.Admin)
	request := &entryv1.BatchCreateEntryRequest{OutputMask: &types.EntryMask{}}
	for i := range 500 {
		request.Entries = append(request.Entries, entry(fmt.Sprintf("/%d", i), fmt.Sprintf("uid:%d", i)))
	}
	request.Entries[249].Selectors = nil
	answer := must[*entryv1.BatchCreateEntryResponse](t)(client.BatchCreateEntry(within(t), request))
	for i, result := range answer.Results {
		if i == 249 {
			item(t, result.Status, codes.InvalidArgument, "selector")
		} else {
			item(t, result.Status, codes.OK, "OK")
		}
	}
	count := must[*entryv1.CountEntriesResponse](t)(client.CountEntries(within(t), &entryv1.CountEntriesRequest{}))
	equal(t, "entries", count.Count, 499)
}

func TestEntriesAreChangedByMask(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := entryv1.NewEntryClient(server.Admin)
	before := entry("/web", "uid:1")
	before.Id, before.Hint, before.DnsNames, before.Admin = "web", "old", []string{"a.test"}, true
	before = create(t, server, before)[0]

	update := func(mask *types.EntryMask, entries ...*types.Entry) []*entryv1.BatchUpdateEntryResponse_Result {
		request := &entryv1.BatchUpdateEntryRequest{Entries: entries, InputMask: mask}
		return must[*entryv1.BatchUpdateEntryResponse](t)(client.BatchUpdateEntry(within(t), request)).Results
	}
	// Only what the mask names.
	results := update(&types.EntryMask{Hint: true}, &types.Entry{Id: "web", Hint: "new"})
	item(t, results[0].Status, codes.OK, "OK")
	expected := proto.Clone(before).(*types.Entry)
	expected.Hint, expected.RevisionNumber = "new", 1
	same(t, results[0].Entry, expected)
	// All of it without one: what is not said is gone.
	whole := entry("/web2", "uid:2")
	whole.Id = "web"
	results = update(nil, whole, &types.Entry{Id: "none"}, &types.Entry{})
	item(t, results[0].Status, codes.OK, "OK")
	expected = proto.Clone(whole).(*types.Entry)
	expected.RevisionNumber, expected.CreatedAt = 2, before.CreatedAt
	same(t, results[0].Entry, expected)
	if code := codes.Code(results[1].Status.Code); code != codes.NotFound && code != codes.InvalidArgument {
		t.Errorf("no such entry: %v", results[1].Status)
	}
	item(t, results[2].Status, codes.InvalidArgument, "id")
	item(t, update(&types.EntryMask{Hint: true}, &types.Entry{Id: "none", Hint: "x"})[0].Status, codes.NotFound, "entry not found")
	item(t, update(&types.EntryMask{Selectors: true}, &types.Entry{Id: "web"})[0].Status, codes.InvalidArgument, "selector")

	deleted := must[*entryv1.BatchDeleteEntryResponse](t)(
		client.BatchDeleteEntry(within(t), &entryv1.BatchDeleteEntryRequest{Ids: []string{"web", "none"}}))
	item(t, deleted.Results[0].Status, codes.OK, "OK")
	equal(t, "deleted", deleted.Results[0].Id, "web")
	item(t, deleted.Results[1].Status, codes.NotFound, "entry not found")
	equal(t, "not deleted", deleted.Results[1].Id, "none")
}

func TestEntriesAreListed(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := entryv1.NewEntryClient(server.Admin)
	federate(t, server, "b.test", "c.test")
	one, two, three := entry("/one", "uid:1"), entry("/two", "uid:1"), entry("/three", "uid:1")
	two.Selectors = append(two.Selectors, selector("unix", "gid:1"))
	two.ParentId, two.Hint = spiffeID("/spire/agent/y"), "h"
	three.Selectors = append(two.Selectors, selector("unix", "user:x"))
	three.Downstream, three.FederatesWith = true, []string{"b.test", "c.test"}
	one.FederatesWith = []string{"b.test"}
	create(t, server, one, two, three)

	selectors := func(match types.SelectorMatch_MatchBehavior, values ...string) *entryv1.ListEntriesRequest_Filter {
		wanted := &types.SelectorMatch{Match: match}
		for _, value := range values {
			wanted.Selectors = append(wanted.Selectors, selector("unix", value))
		}
		return &entryv1.ListEntriesRequest_Filter{BySelectors: wanted}
	}
	federates := func(match types.FederatesWithMatch_MatchBehavior, names ...string) *entryv1.ListEntriesRequest_Filter {
		return &entryv1.ListEntriesRequest_Filter{ByFederatesWith: &types.FederatesWithMatch{TrustDomains: names, Match: match}}
	}
	for _, row := range []struct {
		filter   *entryv1.ListEntriesRequest_Filter
		expected string
	}{
		{nil, "/one /three /two"},
		{&entryv1.ListEntriesRequest_Filter{BySpiffeId: spiffeID("/one")}, "/one"},
		{&entryv1.ListEntriesRequest_Filter{ByParentId: spiffeID("/spire/agent/y")}, "/two"},
		{&entryv1.ListEntriesRequest_Filter{ByHint: wrapperspb.String("h")}, "/two"},
		{&entryv1.ListEntriesRequest_Filter{ByDownstream: wrapperspb.Bool(true)}, "/three"},
		// SPIRE's command line sends this with every list.
		{&entryv1.ListEntriesRequest_Filter{ByDownstream: wrapperspb.Bool(false)}, "/one /three /two"},
		{selectors(types.SelectorMatch_MATCH_EXACT, "uid:1", "gid:1"), "/two"},
		{selectors(types.SelectorMatch_MATCH_SUBSET, "uid:1", "gid:1"), "/one /two"},
		{selectors(types.SelectorMatch_MATCH_SUPERSET, "uid:1", "gid:1"), "/three /two"},
		{selectors(types.SelectorMatch_MATCH_ANY, "user:x", "gid:1"), "/three /two"},
		{federates(types.FederatesWithMatch_MATCH_EXACT, "b.test"), "/one"},
		{federates(types.FederatesWithMatch_MATCH_SUBSET, "b.test", "c.test"), "/one /three"},
		{federates(types.FederatesWithMatch_MATCH_SUPERSET, "b.test"), "/one /three"},
		{federates(types.FederatesWithMatch_MATCH_ANY, "c.test", "d.test"), "/three"},
	} {
		list := must[*entryv1.ListEntriesResponse](t)(client.ListEntries(within(t), &entryv1.ListEntriesRequest{Filter: row.filter}))
		found := paths(list.Entries, func(entry *types.Entry) string { return entry.SpiffeId.Path })
		equal(t, fmt.Sprint(row.filter), found, row.expected)
		request := &entryv1.CountEntriesRequest{}
		if filter := row.filter; filter != nil {
			request.Filter = &entryv1.CountEntriesRequest_Filter{
				BySpiffeId: filter.BySpiffeId, ByParentId: filter.ByParentId, BySelectors: filter.BySelectors,
				ByFederatesWith: filter.ByFederatesWith, ByHint: filter.ByHint, ByDownstream: filter.ByDownstream,
			}
		}
		count := must[*entryv1.CountEntriesResponse](t)(client.CountEntries(within(t), request))
		equal(t, fmt.Sprint("count of ", row.filter), int(count.Count), len(list.Entries))
	}
	for _, filter := range []*entryv1.ListEntriesRequest_Filter{selectors(0), federates(0)} {
		_, err := client.ListEntries(within(t), &entryv1.ListEntriesRequest{Filter: filter})
		refused(t, err, codes.InvalidArgument, "by_")
	}
}

func TestPagesStayWhatTheyAreWhileEntriesComeAndGo(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := entryv1.NewEntryClient(server.Admin)
	var all []*types.Entry
	for i := range 10 {
		all = append(all, entry(fmt.Sprintf("/%d", i), "uid:1"))
	}
	all = create(t, server, all...)
	_, err := client.ListEntries(within(t), &entryv1.ListEntriesRequest{PageToken: "no such", PageSize: 3})
	refused(t, err, codes.InvalidArgument, "could not parse token")
	request := &entryv1.ListEntriesRequest{PageSize: 3, OutputMask: &types.EntryMask{SpiffeId: true}}
	seen := map[string]int{}
	for page := 0; ; page++ {
		list := must[*entryv1.ListEntriesResponse](t)(client.ListEntries(within(t), request))
		for _, entry := range list.Entries {
			same(t, entry, &types.Entry{Id: entry.Id, SpiffeId: entry.SpiffeId})
			seen[entry.SpiffeId.Path]++
		}
		if request.PageToken = list.NextPageToken; request.PageToken == "" {
			break
		}
		equal(t, "page", len(list.Entries), 3)
		// One that was listed goes, and another comes.
		create(t, server, entry(fmt.Sprintf("/new%d", page), "uid:2"))
		gone := &entryv1.BatchDeleteEntryRequest{Ids: []string{list.Entries[0].Id}}
		must[*entryv1.BatchDeleteEntryResponse](t)(client.BatchDeleteEntry(within(t), gone))
	}
	for _, entry := range all {
		equal(t, entry.SpiffeId.Path, seen[entry.SpiffeId.Path], 1)
	}
}

func TestAnAgentReadsItsEntries(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	agent := joined(t, server)
	mine, other := entry("/mine", "uid:1"), entry("/other", "uid:1")
	mine.ParentId = agent.id
	create(t, server, mine, other)
	client := entryv1.NewEntryClient(server.Connect(agent.Identity))
	got := must[*entryv1.GetAuthorizedEntriesResponse](t)(client.GetAuthorizedEntries(within(t), &entryv1.GetAuthorizedEntriesRequest{}))
	equal(t, "entries", len(got.Entries), 1)
	same(t, got.Entries[0].ParentId, agent.id)
	mask := &types.EntryMask{SpiffeId: true, RevisionNumber: true}
	got = must[*entryv1.GetAuthorizedEntriesResponse](t)(
		client.GetAuthorizedEntries(within(t), &entryv1.GetAuthorizedEntriesRequest{OutputMask: mask}))
	same(t, got.Entries[0], &types.Entry{Id: got.Entries[0].Id, SpiffeId: spiffeID("/mine")})

	// Up to 500 they come at once.
	sync := func(requests ...*entryv1.SyncAuthorizedEntriesRequest) (answers []*entryv1.SyncAuthorizedEntriesResponse, err error) {
		stream, err := client.SyncAuthorizedEntries(within(t))
		steeple.Must(t, err)
		for _, request := range requests {
			steeple.Must(t, stream.Send(request))
			for more := true; more; {
				answer, err := stream.Recv()
				if err != nil {
					return answers, err
				}
				answers, more = append(answers, answer), answer.More
			}
		}
		return answers, stream.CloseSend()
	}
	_, err := sync(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask, Ids: []string{"x"}})
	refused(t, err, codes.InvalidArgument, "specifying IDs on initial request is not supported")
	_, err = sync(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: &types.EntryMask{SpiffeId: true}})
	refused(t, err, codes.InvalidArgument, "revision")
	answers, err := sync(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask})
	steeple.Must(t, err)
	equal(t, "answers", len(answers), 1)
	equal(t, "entries", len(answers[0].Entries), 1)
	equal(t, "revisions", len(answers[0].EntryRevisions), 0)

	// More than that are first told by revision, and sent when they are asked for.
	var many []*types.Entry
	for i := range 600 {
		one := entry(fmt.Sprintf("/%d", i), "uid:1")
		one.ParentId = agent.id
		many = append(many, one)
	}
	create(t, server, many...)
	answers, err = sync(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask})
	steeple.Must(t, err)
	var ids []string
	for _, answer := range answers {
		equal(t, "entries", len(answer.Entries), 0)
		if len(answer.EntryRevisions) > 500 {
			t.Errorf("%d revisions on a page", len(answer.EntryRevisions))
		}
		for _, revision := range answer.EntryRevisions {
			ids = append(ids, revision.Id)
		}
	}
	equal(t, "revisions", len(ids), 601)
	equal(t, "in order", slices.IsSorted(ids), true)
	answers, err = sync(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask},
		&entryv1.SyncAuthorizedEntriesRequest{Ids: append([]string{"none"}, ids[:550]...)})
	steeple.Must(t, err)
	var found []string
	for _, answer := range answers {
		if len(answer.Entries) > 500 {
			t.Errorf("%d entries on a page", len(answer.Entries))
		}
		for _, entry := range answer.Entries {
			found = append(found, entry.Id)
			equal(t, "parent", entry.ParentId, nil)
		}
	}
	equal(t, "entries that were asked for", slices.Equal(found, ids[:550]), true)
}

func remove(t *testing.T, server *steeple.Server, ids ...string) {
	t.Helper()
	answer := must[*entryv1.BatchDeleteEntryResponse](t)(
		entryv1.NewEntryClient(server.Admin).BatchDeleteEntry(within(t), &entryv1.BatchDeleteEntryRequest{Ids: ids}))
	for _, result := range answer.Results {
		item(t, result.Status, codes.OK, "")
	}
}
