package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// draft is what a request is made of.
type draft struct{ address, secret, text string }

// standard are the addresses of services that have one.
var standard = map[string]string{
	"pagerduty": "https://events.pagerduty.com/v2/enqueue", "opsgenie": "https://api.opsgenie.com",
}

// requests make the request of each kind of receiver.
var requests = map[string]func(r *receiver, ctx context.Context, m Message, d draft) (*http.Request, error){
	"slack": slack, "teams": teams, "discord": discord, "webhook": hook, "alertmanager": alertmanager,
	"pagerduty": pagerDuty, "opsgenie": opsgenie, "cloudevents": cloudEvents,
}

type object = map[string]any

func post(ctx context.Context, address, media string, body any) (*http.Request, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err == nil {
		req.Header.Set("Content-Type", media)
	}
	return req, err
}

const mediaJSON = "application/json"

// slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
func slack(_ *receiver, ctx context.Context, _ Message, d draft) (*http.Request, error) {
	// So that no text becomes a link or calls for anybody.
	text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(d.text)
	return post(ctx, d.address, mediaJSON, object{"text": text, "mrkdwn": false, "link_names": false})
}

// teams: an adaptive card, as the webhooks of Teams workflows take them.
func teams(_ *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	blocks := []object{}
	for i, line := range strings.Split(d.text, "\n") {
		block := object{"type": "TextBlock", "text": plain(line), "wrap": true, "spacing": "None"}
		if i == 0 {
			block["weight"] = "Bolder"
		}
		blocks = append(blocks, block)
	}
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks}
	if m.Link != "" {
		card["actions"] = []object{{"type": "Action.OpenUrl", "title": "Open", "url": m.Link}}
	}
	return post(ctx, d.address, mediaJSON, object{
		"type":        "message",
		"attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card}},
	})
}

// plain keeps Markdown from making links and pictures of a text.
func plain(s string) string {
	return strings.NewReplacer("[", "\\[", "]", "\\]", "*", "\\*", "_", "\\_", "`", "\\`").Replace(s)
}

// discord: https://docs.discord.com/developers/resources/webhook#execute-webhook
func discord(_ *receiver, ctx context.Context, _ Message, d draft) (*http.Request, error) {
	text := []rune(d.text)
	if len(text) > 1900 {
		text = append(text[:1900], '…')
	}
	return post(ctx, d.address, mediaJSON, object{"content": plain(string(text)), "allowed_mentions": object{"parse": []string{}}})
}

// hook is our own form: the message as JSON, signed with its time.
func hook(_ *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	req, err := post(ctx, d.address, mediaJSON, struct {
		Message
		Title string `json:"title"`
		Text  string `json:"text"`
	}{m, m.Title(), d.text})
	if err != nil {
		return nil, err
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	if _, err := data.ReadFrom(body); err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(d.secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(data.Bytes())
	req.Header.Set("X-Holdfast-Id", m.ID)
	req.Header.Set("X-Holdfast-Timestamp", stamp)
	req.Header.Set("X-Holdfast-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return req, nil
}

// alertmanager: API v2, https://prometheus.io/docs/alerting/latest/clients/
func alertmanager(r *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	alerts := []object{}
	for _, n := range m.Notices {
		labels := map[string]string{}
		for k, v := range n.Labels {
			labels["label_"+labelName(k)] = v
		}
		for k, v := range map[string]string{
			"alertname": "Holdfast", "kind": n.Kind, "environment": n.Environment, "source": n.Source, "target": n.Target,
			"severity": severity(n), "fingerprint": n.Fingerprint,
		} {
			if v != "" {
				labels[k] = v
			}
		}
		// It counts until well after the next reminder, which says that it goes on.
		ends := n.At.Add(r.remind + time.Hour)
		switch n.Phase {
		case Resolved:
			ends = n.At
		case Info:
			ends = n.At.Add(time.Hour)
		}
		alerts = append(alerts, object{
			"labels": labels, "startsAt": n.Since.UTC(), "endsAt": ends.UTC(), "generatorURL": m.Link,
			"annotations": object{"summary": n.line(), "description": n.Text},
		})
	}
	req, err := post(ctx, strings.TrimSuffix(d.address, "/")+"/api/v2/alerts", mediaJSON, alerts)
	if err == nil && d.secret != "" {
		req.Header.Set("Authorization", "Bearer "+d.secret)
	}
	return req, err
}

// labelName is a name that Prometheus knows as one.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// severity is one of critical, error, warning and info.
func severity(n Notice) string {
	switch n.Severity {
	case drift.Critical:
		return "critical"
	case drift.High:
		return "error"
	case drift.Medium:
		return "warning"
	}
	return "info"
}

// pagerDuty: https://developer.pagerduty.com/docs/events-api-v2-overview
func pagerDuty(_ *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	n := m.Notices[0]
	e := object{"routing_key": d.secret, "event_action": "trigger", "dedup_key": n.Fingerprint, "client": "Holdfast"}
	if m.Link != "" {
		e["client_url"] = m.Link
	}
	if n.Phase == Resolved {
		e["event_action"] = "resolve"
	}
	e["payload"] = object{
		"summary": cut(n.line(), 1000), "source": cmp.Or(n.where(), "holdfast"), "severity": severity(n), "timestamp": n.At.UTC(),
		"class": n.Kind, "group": n.Environment, "custom_details": object{"text": d.text, "phase": n.Phase, "labels": n.Labels},
	}
	return post(ctx, d.address, mediaJSON, e)
}

// opsgenie: https://docs.opsgenie.com/docs/alert-api
func opsgenie(_ *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	n := m.Notices[0]
	address, alias := strings.TrimSuffix(d.address, "/")+"/v2/alerts", cut(n.Fingerprint, 500)
	priority := map[drift.Severity]string{drift.Critical: "P1", drift.High: "P2", drift.Medium: "P3"}[n.Severity]
	var body object
	if n.Phase == Resolved {
		address += "/" + url.PathEscape(alias) + "/close?identifierType=alias"
		body = object{"source": "holdfast", "note": cut(n.line(), 1000)}
	} else {
		body = object{
			"message": cut(n.line(), 130), "alias": alias, "description": cut(d.text, 15000), "source": "holdfast", "entity": n.where(),
			"priority": cmp.Or(priority, "P4"), "tags": []string{"holdfast", n.Kind},
		}
	}
	req, err := post(ctx, address, mediaJSON, body)
	if err == nil {
		req.Header.Set("Authorization", "GenieKey "+d.secret)
	}
	return req, err
}

// cloudEvents: structured mode, https://github.com/cloudevents/spec
func cloudEvents(_ *receiver, ctx context.Context, m Message, d draft) (*http.Request, error) {
	req, err := post(ctx, d.address, "application/cloudevents+json", object{
		"specversion": "1.0", "id": m.ID, "source": cmp.Or(m.Link, "urn:holdfast"), "type": "dev.holdfast.notification",
		"time": m.At.UTC(), "datacontenttype": mediaJSON, "data": object{"title": m.Title(), "text": d.text, "notices": m.Notices},
	})
	if err == nil && d.secret != "" {
		req.Header.Set("Authorization", "Bearer "+d.secret)
	}
	return req, err
}
