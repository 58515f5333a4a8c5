"""Walks one purchase stock-in through Kingdee's official Python SDK: batch save, submit, audit, query.

Reads KINGDEE_URL, KINGDEE_ACCT_ID, KINGDEE_USERNAME, KINGDEE_APP_ID and KINGDEE_APP_SECRET, the number of the document
as the one argument, and prints one JSON object. Whatever the server or the SDK refuses ends it with status 1 and the
reason on standard error.
"""

import json
import os
import sys

from k3cloud_webapi_sdk.main import K3CloudApiSdk

FORM = "STK_InStock"


def sdk(secret):
    """A client of the SDK, configured as its manual says."""
    url = os.environ["KINGDEE_URL"]
    client = K3CloudApiSdk(url)
    client.InitConfig(
        acct_id=os.environ["KINGDEE_ACCT_ID"],
        user_name=os.environ["KINGDEE_USERNAME"],
        app_id=os.environ["KINGDEE_APP_ID"],
        app_secret=secret,
        server_url=url,
        lcid=2052,
        org_num=0,
    )
    return client


def stock_in(number):
    """A document as small as the form allows, of the sandbox's base data."""
    return {
        "FBillTypeID": {"FNUMBER": "RKD01_SYS"},
        "FBusinessType": "CG",
        "FBillNo": number,
        "FDate": "2026-08-01 00:00:00",
        "FStockOrgId": {"FNumber": "100"},
        "FDemandOrgId": {"FNumber": "100"},
        "FPurchaseOrgId": {"FNumber": "100"},
        "FCorrespondOrgId": {"FNumber": "100"},
        "FSupplierId": {"FNumber": "GYS0001"},
        "FOwnerTypeIdHead": "BD_OwnerOrg",
        "FOwnerIdHead": {"FNumber": "100"},
        "FInStockFin": {
            "FSettleOrgId": {"FNumber": "100"},
            "FSettleCurrId": {"FNumber": "PRE001"},
        },
        "FInStockEntry": [
            {
                "FMaterialId": {"FNumber": "SP-1001"},
                "FRealQty": 3,
                "FTaxPrice": 11.3,
                "FEntryTaxRate": 13,
                "FStockId": {"FNumber": "CK001"},
                "FOwnerTypeId": "BD_OwnerOrg",
                "FOwnerId": {"FNumber": "100"},
            }
        ],
    }


def succeeded(step, text):
    """The answer of an operation, once its ResponseStatus says that it succeeded."""
    answer = json.loads(text)
    status = answer["Result"]["ResponseStatus"]
    if not status["IsSuccess"]:
        raise RuntimeError(f"{step}: {json.dumps(status, ensure_ascii=False)}")
    return answer


def query(client, number):
    """Number and document status as the server knows them."""
    rows = client.ExecuteBillQuery(
        {
            "FormId": FORM,
            "FieldKeys": "FBillNo,FDocumentStatus",
            "FilterString": f"FBillNo='{number}'",
            "OrderString": "",
            "TopRowCount": 0,
            "StartRow": 0,
            "Limit": 10,
        }
    )
    return json.loads(rows)


def refused(number):
    """What the server says to the same client with the last character of its secret changed."""
    secret = os.environ["KINGDEE_APP_SECRET"]
    wrong = secret[:-1] + ("x" if secret[-1] != "x" else "y")
    try:
        rows = query(sdk(wrong), number)
    except RuntimeError as error:
        return str(error)
    # Some versions answer a query that may not run with the refusal in the place of a row.
    status = rows[0][0]["Result"]["ResponseStatus"] if rows and isinstance(rows[0][0], dict) else None
    if status is None or status["IsSuccess"]:
        raise RuntimeError(f"a wrong secret was accepted: {rows}")
    return json.dumps(status, ensure_ascii=False)


def main():
    number = sys.argv[1]
    refusal = refused(number)
    client = sdk(os.environ["KINGDEE_APP_SECRET"])
    saved = succeeded(
        "BatchSave",
        client.BatchSave(FORM, {"Model": [stock_in(number)], "IsVerifyBaseDataField": "true", "BatchCount": 1}),
    )
    after_save = query(client, number)
    succeeded("Submit", client.Submit(FORM, {"Numbers": [number]}))
    succeeded("Audit", client.Audit(FORM, {"Numbers": [number]}))
    entities = saved["Result"]["ResponseStatus"]["SuccessEntitys"]
    report = {
        "refusal": refusal,
        "saved": [entity["Number"] for entity in entities],
        "after_save": after_save,
        "after_audit": query(client, number),
    }
    print(json.dumps(report, ensure_ascii=False))


if __name__ == "__main__":
    main()
