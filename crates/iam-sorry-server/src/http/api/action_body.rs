//! The body of a request for any action: the stored form of the action, as a person writes it.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::super::extract::printable;
use super::super::problem::ApiError;
use crate::actions::registry::StoredAction;
use crate::service::Service;

/// One JSON object, whose fields are there once each.
pub struct ActionBody(Map<String, Value>);

impl ActionBody {
    /// The action. A user without an account is one of the account that goes without saying; what is stored names another
    /// one always.
    ///
    /// # Errors
    /// bad-request: there is no such action, or not of these fields; not-found: the service has no such account.
    pub fn action(self, service: &Service) -> Result<StoredAction, ApiError> {
        let Self(mut fields) = self;
        if let Some(Value::String(user)) = fields.get_mut("user") {
            match user.split_once('/') {
                Some((account, _)) => drop(service.account_name(account)?),
                None => *user = format!("{}/{user}", service.first_account()),
            }
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| {
            let what = printable(&error.to_string());
            ApiError::bad_request(format!("The body is not of its form: {what}"))
        })
    }
}

impl<'de> Deserialize<'de> for ActionBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an action")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("duplicate field `{name}`")));
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let twice = r#"{"action": "delete-user", "user": "dirk-a", "user": "dirk-b"}"#;
        let error = serde_json::from_str::<ActionBody>(twice).err().unwrap().to_string();
        assert!(error.starts_with("duplicate field `user`"), "{error}");
    }
}
