import com.fasterxml.jackson.annotation.JsonAnySetter;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.huaweicloud.sdk.core.ClientBuilder;
import com.huaweicloud.sdk.core.HcClient;
import com.huaweicloud.sdk.core.SdkResponse;
import com.huaweicloud.sdk.core.SdkStreamResponse;
import com.huaweicloud.sdk.core.TypeCasts;
import com.huaweicloud.sdk.core.auth.BasicCredentials;
import com.huaweicloud.sdk.core.auth.CredentialProviderChain;
import com.huaweicloud.sdk.core.http.FieldExistence;
import com.huaweicloud.sdk.core.http.HttpMethod;
import com.huaweicloud.sdk.core.http.HttpRequestDef;
import com.huaweicloud.sdk.core.http.LocationType;
import com.huaweicloud.sdk.dbss.v1.DbssClient;
import com.huaweicloud.sdk.dbss.v1.model.ListAuditInstancesRequest;
import com.huaweicloud.sdk.dbss.v1.region.DbssRegion;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The official SDK for Java. A request is in tests/sdk/README.md; the result is printed. */
public final class Official {
    private static final String REPORTS = "/v1/{project_id}/audit/{instance_id}/reports";

    private Official() {}

    /** The request of any call. */
    public static final class Call {
        private String instance;
        private String report;
        private String locale;
        private Map<?, ?> body;

        public String getInstance() { return instance; }
        public void setInstance(String value) { instance = value; }
        public String getReport() { return report; }
        public void setReport(String value) { report = value; }
        public String getLocale() { return locale; }
        public void setLocale(String value) { locale = value; }
        public Map<?, ?> getBody() { return body; }
        public void setBody(Map<?, ?> value) { body = value; }
    }

    /** The response of any call but a download. */
    public static final class Answer extends SdkResponse {
        private final Map<String, JsonNode> fields = new HashMap<>();

        @JsonAnySetter
        public void set(String name, JsonNode value) { fields.put(name, value); }
    }

    /** The response of a download. */
    public static final class Download extends SdkStreamResponse {}

    /** A call as the newer clients define it; the client of the registry has none for reports. */
    private static <T> T call(HcClient client, Class<T> answer, HttpMethod method, String path, Call call) {
        var definition = HttpRequestDef.builder(method, Call.class, answer)
            .withName("call").withUri(path).withContentType("application/json");
        Class<Map<?, ?>> map = TypeCasts.uncheckedConversion(Map.class);
        definition.<String>withRequestField("instance_id", LocationType.Path,
            FieldExistence.NON_NULL_NON_EMPTY, String.class, f -> f.withMarshaller(Call::getInstance, Call::setInstance));
        if (call.report != null) {
            definition.<String>withRequestField("id", LocationType.Path,
                FieldExistence.NON_NULL_NON_EMPTY, String.class, f -> f.withMarshaller(Call::getReport, Call::setReport));
        }
        definition.<String>withRequestField("local", LocationType.Query,
            FieldExistence.NULL_IGNORE, String.class, f -> f.withMarshaller(Call::getLocale, Call::setLocale));
        if (call.body != null) {
            definition.<Map<?, ?>>withRequestField("body", LocationType.Body,
                FieldExistence.NON_NULL_NON_EMPTY, map, f -> f.withMarshaller(Call::getBody, Call::setBody));
        }
        return client.syncInvokeHttp(call, definition.build());
    }

    /** The credentials of the arguments, or those that the chain finds. */
    private static BasicCredentials credentialsOf(Map<String, String> given) {
        var credentials = given.containsKey("access_key")
            ? new BasicCredentials().withAk(given.get("access_key")).withSk(given.get("secret_key"))
                .withSecurityToken(given.get("security_token"))
            : (BasicCredentials) CredentialProviderChain.basic().getCredentials();
        if (given.containsKey("project_id")) {
            credentials.withProjectId(given.get("project_id"));
        }
        if (given.containsKey("iam_endpoint")) {
            credentials.withIamEndpoint(given.get("iam_endpoint"));
        }
        return credentials;
    }

    private static HcClient clientOf(Map<String, String> given, boolean implicit) {
        var builder = new ClientBuilder<HcClient>(client -> client);
        if (!implicit) {
            builder.withCredential(credentialsOf(given));
        }
        if (given.containsKey("endpoint")) {
            builder.withEndpoint(given.get("endpoint"));
        }
        if (given.containsKey("region")) {
            builder.withRegion(DbssRegion.valueOf(given.get("region")));
        }
        return builder.build();
    }

    private static List<String> instancesOf(HcClient client, String version) {
        if (!version.equals("oldest")) {
            throw new UnsupportedOperationException("this version of the SDK has no such list");
        }
        List<String> ids = new ArrayList<>();
        var found = new DbssClient(client).listAuditInstances(new ListAuditInstancesRequest());
        found.getServers().forEach(one -> ids.add(one.getId()));
        return ids;
    }

    private static List<String> reportsOf(HcClient client, String instance) {
        var call = new Call();
        call.instance = instance;
        call.body = Map.of("page", 1, "size", 100);
        List<String> ids = new ArrayList<>();
        call(client, Answer.class, HttpMethod.POST, REPORTS + "/list", call).fields.get("reports")
            .forEach(one -> ids.add(one.get("report").get("id").asText()));
        return ids;
    }

    /** Makes a report of the first template, downloads it and deletes it. */
    private static void makeReport(HcClient client, String instance, Map<String, Object> result) {
        var call = new Call();
        call.instance = instance;
        var templates = call(client, Answer.class, HttpMethod.GET,
            "/v2/{project_id}/audit/{instance_id}/reports/templates", call).fields.get("templates");
        var before = reportsOf(client, instance);
        call.body = Map.of("template_id", templates.get(0).get("template").get("id").asText(),
            "start_time", "2026-01-01 00:00:00", "end_time", "2026-01-02 00:00:00");
        var created = call(client, Answer.class, HttpMethod.POST, REPORTS + "/create", call);
        result.put("created", created.fields.get("result").asText());
        // The newest one is the first. It is complete with the third list that shows it.
        reportsOf(client, instance);
        reportsOf(client, instance);
        call.report = reportsOf(client, instance).get(0);
        call.body = null;
        result.put("report", call.report);
        call.locale = "zh-cn";
        call(client, Download.class, HttpMethod.GET, REPORTS + "/{id}/download", call)
            .consumeDownloadStream(stream -> {
                try {
                    byte[] received = stream.readAllBytes();
                    result.put("format", new String(received, 0, 5, StandardCharsets.ISO_8859_1));
                    result.put("length", received.length);
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            });
        call.locale = null;
        var deleted = call(client, Answer.class, HttpMethod.DELETE, REPORTS + "/{id}", call);
        result.put("deleted", deleted.fields.get("status").asText());
        result.put("left", reportsOf(client, instance).equals(before));
    }

    public static void main(String[] given) throws Exception {
        var json = new ObjectMapper();
        var request = json.readTree(given[0]);
        Map<String, String> arguments = new HashMap<>();
        request.get("arguments").fields()
            .forEachRemaining(field -> arguments.put(field.getKey(), field.getValue().asText()));
        Map<String, Object> result = new LinkedHashMap<>();
        try {
            var client = clientOf(arguments, request.get("implicit").asBoolean());
            var instances = instancesOf(client, request.get("list").asText());
            result.put("instances", instances);
            if (request.path("report").asBoolean()) {
                makeReport(client, instances.get(0), result);
            }
        } catch (Exception error) {
            result.clear();
            result.put("error", error.getClass().getSimpleName());
            result.put("message", String.valueOf(error.getMessage()));
        }
        System.out.println(json.writeValueAsString(result));
        // Threads of its connections would keep the program alive for a minute.
        System.exit(0);
    }
}
