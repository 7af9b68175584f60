package api

// PathOpenAPI is the OpenAPI 3.1 document of the API.
const PathOpenAPI = "/api/v1/openapi.json"
