//! Requests to the service with the client's credentials.

use std::sync::Arc;

use super::inner::ClientInner;
use crate::credentials::{
    CredentialSource, Credentials, CredentialsProvider, initial_credentials, with_credential_retry,
};
use crate::error::{CancelledBy, Error};
use crate::http::{Call, Endpoint, Request, Response};
use crate::operation::cancelled;

impl ClientInner {
    fn provider(&self) -> Result<Arc<dyn CredentialsProvider>, Error> {
        self.provider.get().map_err(|e| match self.http.is_closed() {
            true => cancelled(CancelledBy::Close),
            false => e,
        })
    }

    /// Returns the credentials for a new call, and where they come from.
    pub(super) fn credentials(
        &self,
        call: &Arc<Call>,
    ) -> Result<(CredentialSource, Arc<Credentials>), Error> {
        let provider = self.provider()?;
        let credentials =
            self.with_request_context(call, |context| initial_credentials(provider.as_ref(), context))?;
        Ok((provider.source(), credentials))
    }

    /// Returns the id of a call's project: the given one, or the client's.
    pub(super) fn project(&self, call: &Arc<Call>, given: Option<&str>) -> Result<String, Error> {
        if let Some(project) = given.or(self.project.configured()) {
            return Ok(project.to_owned());
        }
        let provider = self.provider()?;
        self.with_request_context(call, |context| self.project.find(provider.as_ref(), context))
    }

    /// Sends a request with the client's credentials and waits for the header of its
    /// response. Rejected credentials are replaced once, if others are available.
    pub(super) fn send<'a>(
        &self,
        call: &Arc<Call>,
        project: Option<&str>,
        request: impl Fn(&Endpoint) -> Result<Request<'a>, Error>,
    ) -> Result<Response, Error> {
        self.send_request(call, project, &request)
    }

    /// The same, not generic, so that there is one copy of it.
    fn send_request<'a>(
        &self,
        call: &Arc<Call>,
        project: Option<&str>,
        request: &dyn Fn(&Endpoint) -> Result<Request<'a>, Error>,
    ) -> Result<Response, Error> {
        let provider = self.provider()?;
        self.with_request_context(call, |context| {
            with_credential_retry(
                provider.as_ref(),
                context,
                |credentials| {
                    let sign = |signed: &mut ::http::Request<&[u8]>| credentials.sign(signed, project);
                    let response = self.endpoints.send_with_failover(context, &sign, request)?;
                    if response.accepts_credentials() {
                        credentials.accept();
                    }
                    Ok(response)
                },
                |result| matches!(result, Ok(response) if response.refuses_credentials()),
            )
        })
    }

    /// Fetches a document: sends a request and reads the response, with as many attempts
    /// as the call allows.
    pub(super) fn fetch<'a, T>(
        &self,
        call: &Arc<Call>,
        project: &str,
        request: impl Fn(&Endpoint) -> Result<Request<'a>, Error>,
        read: impl Fn(&mut Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.retry(&call.operation().overrides()).run(call, || {
            let mut response = self.send(call, Some(project), &request)?;
            read(&mut response)
        })
    }
}
